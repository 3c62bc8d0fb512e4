//! When a certificate ends (RFC 5280 §4.1.2.5), read out of its DER. Says nothing about who signed it.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Date, Month, OffsetDateTime, Time};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Of the fields before the validity, a certificate has a serial number, an algorithm and an issuer.
const FIELDS_BEFORE_VALIDITY: usize = 3;

/// When the first certificate of a PEM file ends, of all that stand in it. `None`: there is none that can be read.
#[must_use]
pub fn first_end(file: &Path) -> Option<OffsetDateTime> {
    let chain = CertificateDer::pem_file_iter(file).ok()?;
    chain.map(|der| not_after(&der.ok()?)).collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// When a certificate ends.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<OffsetDateTime> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        (_, fields) = element(fields, VERSION)?;
    }
    for _ in 0..FIELDS_BEFORE_VALIDITY {
        (_, fields) = element(fields, *fields.first()?)?;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, until) = element(validity, *validity.first()?)?;
    let tag = *until.first()?;
    let (text, _) = element(until, tag)?;
    moment(tag, std::str::from_utf8(text).ok()?)
}

/// The content of the element that `bytes` begin with, and what stands behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let (length, rest) =
            rest.split_at_checked(usize::from(short & 0x7f)).filter(|(length, _)| length.len() <= 4)?;
        (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

/// `YYMMDDHHMMSSZ` up to 2049, `YYYYMMDDHHMMSSZ` from 2050 on.
fn moment(tag: u8, text: &str) -> Option<OffsetDateTime> {
    let text = text.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let year: i32 = text.get(..2)?.parse().ok()?;
            (year + if year < 50 { 2000 } else { 1900 }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(part(0)?).ok()?, part(2)?).ok()?;
    let time = Time::from_hms(part(4)?, part(6)?, part(8)?).ok()?;
    Some(OffsetDateTime::new_utc(date, time))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_end_is_read_in_both_forms() {
        for end in [datetime!(2031-02-28 23:59:58 UTC), datetime!(2071-12-01 00:00:00 UTC)] {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = end;
            let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            assert_eq!(not_after(certificate.der()), Some(end));
        }
    }

    #[test]
    fn what_is_cut_short_has_no_end() {
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let der = certificate.cert.der();
        for length in 0..100 {
            assert_eq!(not_after(&der[..length]), None);
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
