//! What a certificate says of itself, for the sentence about one that is refused.
//!
//! Reads just enough of X.509's DER to name subject and issuer. Nothing is decided here: whether a
//! certificate is good is rustls's business, and a certificate that cannot be read has no names.

use crate::names::escape;

/// How the common name is called in DER: 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// How the organization is called in DER: 2.5.4.10.
const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xA0;
/// A longer name is cut.
const LONGEST: usize = 80;

/// Returns whom a certificate is for and who issued it, each empty if it does not say.
pub(super) fn names(der: &[u8]) -> (String, String) {
    read(der).unwrap_or_default()
}

fn read(der: &[u8]) -> Option<(String, String)> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    let (_, _, rest) = element(rest)?; // serial number
    let (_, _, rest) = element(rest)?; // algorithm
    let (_, issuer, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?; // validity
    let (_, subject, _) = element(rest)?;
    Some((name(subject), name(issuer)))
}

/// Returns the common name in a list of names, else the organization.
fn name(mut names: &[u8]) -> String {
    let mut found = String::new();
    while let Some((kind, set, rest)) = element(names) {
        names = rest;
        let Some((SEQUENCE, pair, _)) = element(set).filter(|_| kind == SET) else {
            continue;
        };
        let Some((OBJECT_ID, id, value)) = element(pair) else {
            continue;
        };
        let Some((_, text, _)) = element(value) else {
            continue;
        };
        let is_common = id == COMMON_NAME;
        if is_common || (id == ORGANIZATION && found.is_empty()) {
            found = escape(text).chars().take(LONGEST).collect();
        }
        if is_common {
            break;
        }
    }
    found
}

/// Splits the first element off: its tag, its content, what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7F))?;
        if digits.len() > 4 {
            return None;
        }
        length = digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, 0x82];
        out.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        out.extend_from_slice(content);
        out
    }

    fn name_der(id: &[u8], text: &str) -> Vec<u8> {
        let pair = [der(OBJECT_ID, id), der(0x0C, text.as_bytes())].concat();
        der(SET, &der(SEQUENCE, &pair))
    }

    fn certificate(issuer: &[u8], subject: &[u8]) -> Vec<u8> {
        let tbs = [
            der(VERSION, &der(2, &[2])),
            der(2, &[1]),
            der(SEQUENCE, &[]),
            der(SEQUENCE, issuer),
            der(SEQUENCE, &[]),
            der(SEQUENCE, subject),
        ]
        .concat();
        der(SEQUENCE, &der(SEQUENCE, &tbs))
    }

    #[test]
    fn the_common_name_goes_before_the_organization() {
        let issuer = name_der(ORGANIZATION, "Some CA");
        let subject = [
            name_der(ORGANIZATION, "Somebody"),
            name_der(COMMON_NAME, "chat.example\x1b"),
        ]
        .concat();
        let (subject, issuer) = names(&certificate(&issuer, &subject));
        assert_eq!(issuer, "Some CA");
        assert!(subject.starts_with("chat.example") && !subject.contains('\x1b'));
    }

    #[test]
    fn rubbish_has_no_names_and_breaks_nothing() {
        let good = certificate(&name_der(COMMON_NAME, "a"), &name_der(COMMON_NAME, "b"));
        for cut in 0..good.len() {
            let _names: (String, String) = names(&good[..cut]);
        }
        assert_eq!(names(b""), (String::new(), String::new()));
        let huge = [0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(names(&huge), (String::new(), String::new()));
    }
}
