//! Numbers in base62: digits `0-9A-Za-z`, most significant first, padded with `0`.
//!
//! Keys, ids and checksums use it because such text is selected by a double click and survives every transport.

/// The digits, in order of their value.
pub const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Digits that 256 bits take.
pub const DIGITS_256_BITS: usize = 43;

/// Digits that 32 bits take.
pub const DIGITS_32_BITS: usize = 6;

/// Writes a 32-bit number in six digits.
#[must_use]
pub fn encode_u32(number: u32) -> String {
    digits_u32(number).map(char::from).iter().collect()
}

/// The six digits of a 32-bit number.
#[must_use]
pub fn digits_u32(mut number: u32) -> [u8; DIGITS_32_BITS] {
    let mut digits = [b'0'; DIGITS_32_BITS];
    for digit in digits.iter_mut().rev() {
        let at = usize::try_from(number % 62).unwrap_or_default();
        *digit = DIGITS.get(at).copied().unwrap_or(b'0');
        number /= 62;
    }
    digits
}

/// Writes 256 bits, read as one big-endian number, in 43 digits.
#[must_use]
pub fn encode_256(bytes: &[u8; 32]) -> String {
    encode(bytes, DIGITS_256_BITS)
}

/// Whether every byte is a digit.
#[must_use]
pub fn is_digits(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_alphanumeric)
}

/// Twelve random digits, each value equally likely: the public part of a key.
#[must_use]
pub fn random_twelve() -> [u8; 12] {
    use rand::RngExt;
    let mut rng = rand::rng();
    std::array::from_fn(|_| {
        let at: usize = rng.random_range(0..DIGITS.len());
        DIGITS.get(at).copied().unwrap_or(b'0')
    })
}

/// Schoolbook division by 62, one digit a pass; inputs are at most 32 bytes.
fn encode(big_endian: &[u8], digits: usize) -> String {
    let mut number = big_endian.to_vec();
    let mut reversed = Vec::with_capacity(digits);
    for _ in 0..digits {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = (rest << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(0);
            rest = value % 62;
        }
        let digit = usize::try_from(rest).ok().and_then(|at| DIGITS.get(at)).copied().unwrap_or(b'0');
        reversed.push(char::from(digit));
    }
    zeroize::Zeroize::zeroize(&mut number);
    reversed.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_most_significant_first_and_padded() {
        assert_eq!(encode_u32(0), "000000");
        assert_eq!(encode_u32(61), "00000z");
        assert_eq!(encode_u32(62), "000010");
        assert_eq!(encode_u32(u32::MAX), "4gfFC3");
    }

    #[test]
    fn the_greatest_256_bits_fit_43_digits() {
        let greatest = encode_256(&[0xff; 32]);
        assert_eq!(greatest.len(), DIGITS_256_BITS);
        assert!(is_digits(greatest.as_bytes()));
        assert_eq!(encode_256(&[0; 32]), "0".repeat(43));
    }
}
