//! The wire form of names, and the URIs that a wildcard must not match.

use std::borrow::Cow;

/// Whether a scope token may hold this byte: `!`, `#`–`[`, `]`–`~` (RFC 6749 §3.3).
pub(super) fn is_scope_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E)
}

/// A name in wire form: bytes that a scope token cannot hold and every `*` become `%XX`, a `%` that
/// stands there stays, and the hex digits of an escape become upper-case. Applying it twice changes
/// nothing. Borrows where the name is in this form already, as nearly all are.
pub(super) fn wire_form(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| is_scope_byte(byte) && byte != b'*';
    if name.bytes().all(|byte| plain(byte) && byte != b'%') {
        return Cow::Borrowed(name);
    }
    let mut written = String::with_capacity(name.len().saturating_mul(2));
    let mut rest = name.as_bytes();
    loop {
        rest = match rest {
            [] => return Cow::Owned(written),
            [b'%', high, low, tail @ ..] if is_hex(*high) && is_hex(*low) => {
                written.push('%');
                written.push(char::from(high.to_ascii_uppercase()));
                written.push(char::from(low.to_ascii_uppercase()));
                tail
            }
            [byte, tail @ ..] if plain(*byte) => {
                written.push(char::from(*byte));
                tail
            }
            [byte, tail @ ..] => {
                written.push_str(percent_encoding::percent_encode_byte(*byte));
                tail
            }
        };
    }
}

/// Whether a server may read this URI (in wire form) as another one than the text says.
///
/// So it is with a segment `.` or `..`, an encoded `/` or `\`, and a control character. A pattern
/// `file:///docs/*` must not reach `file:///docs/../etc/passwd`. Such a URI is matched only by a
/// pattern that equals it, by the bare method, or by `*`.
///
/// Where in doubt the answer is yes, because that only asks for a more explicit permission: a
/// segment ends at `:`, `;`, `?` and `#` too (`file:../x`, `..;/x`), and an escape whose `%` is
/// itself escaped (`%252E`) counts as the escape, for servers that decode twice.
pub(super) fn is_ambiguous(uri: &str) -> bool {
    let mut rest = uri.as_bytes();
    let mut before = 0;
    // How many dots the segment has so far; none once something else stands in it.
    let mut dots = Some(0_usize);
    while let Some(Symbol { byte, escaped, tail }) = Symbol::first_of(rest) {
        let c1_control = before == 0xC2 && (0x80..=0x9F).contains(&byte);
        if byte.is_ascii_control() || c1_control || (escaped && matches!(byte, b'/' | b'\\')) {
            return true;
        }
        dots = match byte {
            b'/' | b':' | b';' | b'?' | b'#' if !escaped => {
                if is_dot_segment(dots) {
                    return true;
                }
                Some(0)
            }
            b'.' => dots.map(|count| count.saturating_add(1)),
            _ => None,
        };
        before = byte;
        rest = tail;
    }
    is_dot_segment(dots)
}

/// One character of a URI in wire form, looked through its escape.
struct Symbol<'a> {
    byte: u8,
    escaped: bool,
    tail: &'a [u8],
}

impl<'a> Symbol<'a> {
    fn first_of(text: &'a [u8]) -> Option<Self> {
        let (&byte, mut tail) = text.split_first()?;
        if byte != b'%' {
            return Some(Self { byte, escaped: false, tail });
        }
        while let [b'2', b'5', inner @ ..] = tail {
            if escape_value(inner).is_none() {
                break;
            }
            tail = inner;
        }
        Some(match escape_value(tail) {
            Some((byte, tail)) => Self { byte, escaped: true, tail },
            None => Self { byte, escaped: false, tail },
        })
    }
}

/// The byte that two hex digits stand for, and what follows them.
fn escape_value(digits: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, tail @ ..] = digits else { return None };
    let value = char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?;
    Some((u8::try_from(value).ok()?, tail))
}

fn is_dot_segment(dots: Option<usize>) -> bool {
    matches!(dots, Some(1 | 2))
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}
