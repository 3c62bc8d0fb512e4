//! How long a reply is good for: what its headers say (RFC 9111), within our own bounds.

use std::time::Duration;

use http::{HeaderMap, header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Nobody makes us ask more often than this, whatever the headers say.
pub const FRESH_MIN: Duration = Duration::from_mins(1);
/// Nothing is believed for longer than this without asking again.
pub const FRESH_MAX: Duration = Duration::from_hours(24);
/// For replies that say nothing of it.
pub const FRESH_UNSAID: Duration = Duration::from_mins(5);
/// How long beyond that a good reply serves while the other side cannot be heard.
pub const STALE_MAX: Duration = Duration::from_hours(24);

/// How long to keep a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// It is not asked for again before; [`FRESH_MIN`] to [`FRESH_MAX`].
    pub fresh: Duration,
    /// After that it serves for so long while asking again fails (RFC 5861 §4); at most [`STALE_MAX`].
    pub stale: Duration,
}

impl Keep {
    /// What the headers of a reply ask for.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let said = CacheControl::of(headers);
        // A reply that must not be kept is kept for the least time: else everybody could make us ask without end.
        let fresh = match said.lifetime(headers) {
            _ if said.never => Duration::ZERO,
            Some(lifetime) => lifetime.saturating_sub(age(headers)),
            None => FRESH_UNSAID,
        };
        let stale = if said.never || said.no_stale { Duration::ZERO } else { said.stale_if_error.unwrap_or(STALE_MAX) };
        Self { fresh: fresh.clamp(FRESH_MIN, FRESH_MAX), stale: stale.min(STALE_MAX) }
    }
}

/// The directives that concern a cache with one user, which this is (RFC 9111 §5.2.2, RFC 5861 §4).
#[derive(Default)]
struct CacheControl {
    never: bool,
    no_stale: bool,
    max_age: Option<Duration>,
    stale_if_error: Option<Duration>,
}

impl CacheControl {
    fn of(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            // What cannot be read may be a prohibition.
            let Ok(line) = line.to_str() else {
                said.never = true;
                continue;
            };
            for directive in split_list(line) {
                let (name, value) =
                    directive.split_once('=').map_or((directive, None), |(name, value)| (name, Some(value)));
                said.take(name.trim(), value);
            }
        }
        said
    }

    fn take(&mut self, name: &str, value: Option<&str>) {
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => self.never = true,
            "must-revalidate" => self.no_stale = true,
            // RFC 9111 §4.2.1: given twice or not as a number, it counts as over.
            "max-age" => self.max_age = Some(shortest(self.max_age, value)),
            "stale-if-error" => self.stale_if_error = Some(shortest(self.stale_if_error, value)),
            _ => {}
        }
    }

    /// RFC 9111 §4.2.1; `None` when nothing is said.
    fn lifetime(&self, headers: &HeaderMap) -> Option<Duration> {
        self.max_age.or_else(|| {
            let expires = headers.get(header::EXPIRES)?;
            // RFC 9111 §5.3: an invalid date, above all `0`, lies in the past. Without the sender's own clock beside
            // it the date means nothing either.
            let between = date(expires).zip(headers.get(header::DATE).and_then(date));
            Some(between.map_or(Duration::ZERO, |(end, sent)| (end - sent).try_into().unwrap_or(Duration::ZERO)))
        })
    }
}

fn shortest(before: Option<Duration>, value: Option<&str>) -> Duration {
    let value = value.and_then(seconds).unwrap_or(Duration::ZERO);
    before.map_or(value, |before| before.min(value))
}

/// RFC 9111 §5.1: how long others have kept it already.
fn age(headers: &HeaderMap) -> Duration {
    let said = headers.get(header::AGE).and_then(|value| value.to_str().ok());
    said.and_then(seconds).unwrap_or(Duration::ZERO)
}

/// RFC 9111 §1.2.2; a number too large to hold is as large as can be. Some write it in quotes.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

fn date(value: &http::HeaderValue) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.to_str().ok()?, &Rfc2822).ok()
}

/// The elements of a list (RFC 9110 §5.6.1), with commas inside of quotes left alone.
fn split_list(line: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_end = move |sign: char| {
        match sign {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    };
    line.split(is_end).map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keep(lines: &[(&'static str, &str)]) -> Keep {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Keep::of(&headers)
    }

    fn fresh(lines: &[(&'static str, &str)]) -> u64 {
        keep(lines).fresh.as_secs()
    }

    fn stale(control: &str) -> u64 {
        keep(&[("cache-control", control)]).stale.as_secs()
    }

    const DAY: u64 = 86_400;

    #[test]
    fn max_age_counts_within_the_bounds_and_less_what_has_passed() {
        for (control, expected) in [
            ("max-age=600", 600),
            ("public, MAX-AGE = 600, immutable", 600),
            ("max-age=\"600\"", 600),
            ("max-age=0", 60),
            ("max-age=59", 60),
            ("max-age=86401", DAY),
            ("max-age=99999999999999999999", DAY),
            ("max-age=600, max-age=300", 300),
            ("max-age=-1", 60),
            ("max-age=x", 60),
            ("max-age", 60),
            ("s-maxage=9000, max-age=600", 600),
            ("private=\"a, no-store, b\", max-age=600", 600),
            ("no-store", 60),
            ("No-Store, max-age=600", 60),
            ("max-age=600, no-cache", 60),
            ("no-cache=\"set-cookie\", max-age=600", 60),
            ("", 300),
            (",,", 300),
            ("public", 300),
        ] {
            assert_eq!(fresh(&[("cache-control", control)]), expected, "{control}");
        }
        assert_eq!(fresh(&[("cache-control", "public"), ("cache-control", "max-age=600")]), 600);
        assert_eq!(fresh(&[("cache-control", "max-age=600"), ("age", "100")]), 500);
        assert_eq!(fresh(&[("cache-control", "max-age=600"), ("age", "700")]), 60);
        assert_eq!(fresh(&[("cache-control", "max-age=600"), ("age", "x")]), 600);
        assert_eq!(fresh(&[]), 300);
    }

    #[test]
    fn expires_counts_against_the_senders_own_clock_when_there_is_no_max_age() {
        let date = ("date", "Mon, 23 Nov 2026 10:00:00 GMT");
        for (expires, expected) in [
            ("Mon, 23 Nov 2026 10:10:00 GMT", 600),
            ("Mon, 23 Nov 2026 09:00:00 GMT", 60),
            ("Mon, 23 Nov 2099 10:00:00 GMT", DAY),
            ("0", 60),
            ("-1", 60),
            ("soon", 60),
        ] {
            assert_eq!(fresh(&[date, ("expires", expires)]), expected, "{expires}");
            assert_eq!(fresh(&[("expires", expires)]), 60, "{expires} alone");
            assert_eq!(fresh(&[date, ("expires", expires), ("cache-control", "max-age=900")]), 900);
        }
        assert_eq!(fresh(&[date, ("expires", "Mon, 23 Nov 2026 10:10:00 GMT"), ("age", "100")]), 500);
    }

    #[test]
    fn a_reply_outlives_a_failure_unless_it_says_otherwise() {
        for (control, expected) in [
            ("max-age=600", DAY),
            ("max-age=600, stale-if-error=120", 120),
            ("stale-if-error=0", 0),
            ("stale-if-error", 0),
            ("stale-if-error=99999999", DAY),
            ("max-age=600, must-revalidate", 0),
            ("no-store", 0),
            ("no-cache, stale-if-error=120", 0),
        ] {
            assert_eq!(stale(control), expected, "{control}");
        }
        let mut unreadable = HeaderMap::new();
        unreadable.insert("cache-control", http::HeaderValue::from_bytes(b"no-store\xff").unwrap());
        assert_eq!(Keep::of(&unreadable), Keep { fresh: FRESH_MIN, stale: Duration::ZERO });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_header_leads_out_of_the_bounds(control in "[ -~]{0,60}", expires in "[ -~]{0,40}", age in "[ -~]{0,12}") {
            let kept = keep(&[("cache-control", &control), ("expires", &expires), ("age", &age)]);
            prop_assert!((FRESH_MIN..=FRESH_MAX).contains(&kept.fresh) && kept.stale <= STALE_MAX);
        }
    }
}
