//! The one guard against forms of other sites (CSRF): what changes something on a person's word comes from a page of ours.

use http::{HeaderMap, HeaderName, header};

use crate::app::App;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request was sent by a page of ours: the browser says so itself (W3C Fetch Metadata §2.3), or, where it does not
/// say that, names our origin. A request that says neither was not.
pub(in crate::http) fn is_ours(app: &App, headers: &HeaderMap) -> bool {
    told(headers, app.config.public_url.as_str())
}

fn told(headers: &HeaderMap, own: &str) -> bool {
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next();
        // Two are nobody's word.
        first.filter(|_| values.next().is_none()).map(|value| value.as_bytes().to_vec())
    };
    if headers.contains_key(&SEC_FETCH_SITE) {
        return one(&SEC_FETCH_SITE).is_some_and(|site| site == b"same-origin");
    }
    one(&header::ORIGIN).is_some_and(|origin| origin == own.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_browsers_own_word_counts() {
        let own = "https://auth.example";
        let cases: [(&[(&str, &str)], bool); 12] = [
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://auth.example")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://auth.example")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (&[("origin", "https://auth.example")], true),
            (&[("origin", "https://auth.example.evil.example")], false),
            (&[("origin", "http://auth.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "https://auth.example"), ("origin", "https://evil.example")], false),
            (&[("referer", "https://auth.example/")], false),
        ];
        for (given, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            assert_eq!(told(&headers, own), expected, "{given:?}");
        }
    }
}
