//! What handlers take out of a request. Each says what is wrong, and where; none looks before the caller is known.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::App;
use crate::http::problem::Problem;
use crate::refusal::{Checks, Code, Refused};

/// Bytes of a body at most.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// A JSON body. Unknown and doubled members are refused; an empty body is `{}`.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<App>) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| too_large(&rejection))?;
        if !bytes.is_empty() && !json {
            return Err(Refused::new(Code::UnsupportedMediaType, "The body must be `application/json`.").into());
        }
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        Ok(Self(read(bytes)?))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// The body did not fit, or did not arrive.
pub(super) fn too_large(rejection: &BytesRejection) -> Problem {
    if rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE {
        return Refused::new(Code::BodyTooLarge, format!("The body is larger than {BODY_BYTES_MAX} bytes.")).into();
    }
    Refused::new(Code::InvalidJson, "The body did not arrive whole.").into()
}

/// Reads JSON. Syntax is 400; a wrong type, a missing or an unknown member is 422 and says where.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let invalid = |error: &serde_json::Error| Refused::new(Code::InvalidJson, format!("The body is not JSON: {error}"));
    let value: Value = serde_json::from_slice(bytes).map_err(|error| invalid(&error))?;
    if !value.is_object() {
        return Err(Refused::new(Code::InvalidJson, "The body must be a JSON object."));
    }
    let mut checks = Checks::default();
    no_nul(&value, "", &mut checks);
    checks.done()?;
    let from = &mut serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(from).map_err(|error| {
        let (path, error) = (pointer(error.path()), error.into_inner());
        // It is JSON, as was seen above: what the reader of a type calls a fault of syntax is a value of another type.
        if error.is_syntax() || error.is_eof() {
            return Refused::field(&path, "invalid", "a value of another type");
        }
        let sentence = plain(&error);
        Refused::field(&format!("{path}{}", named(&sentence)), "invalid", sentence)
    })
}

/// PostgreSQL stores no NUL, and nobody means one.
fn no_nul(value: &Value, at: &str, checks: &mut Checks) {
    match value {
        Value::String(text) if text.contains('\0') => checks.wrong(at, "control_character", "no NUL character"),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| no_nul(item, &format!("{at}/{index}"), checks));
        }
        Value::Object(members) => {
            for (name, member) in members {
                let here = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                checks.expect(!name.contains('\0'), at, "control_character", "no NUL character");
                no_nul(member, &here, checks);
            }
        }
        _ => {}
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |mut pointer, segment| {
        use std::fmt::Write;
        let _ = match segment {
            Segment::Seq { index } => write!(pointer, "/{index}"),
            Segment::Map { key } => write!(pointer, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => write!(pointer, "/{variant}"),
            Segment::Unknown => Ok(()),
        };
        pointer
    })
}

/// The member that a sentence is about, when the path to it ends one short: it is missing, or there twice.
fn named(sentence: &str) -> String {
    let rest = ["missing field `", "duplicate field `"].iter().find_map(|start| sentence.strip_prefix(start));
    rest.and_then(|rest| rest.strip_suffix('`')).map(|name| format!("/{name}")).unwrap_or_default()
}

/// The sentence without the place in the text: the pointer says where.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(sentence, _)| sentence.to_owned())
}

/// An id in the path.
#[derive(Debug)]
pub struct Id<T>(pub T);

impl<T> FromRequestParts<Arc<App>> for Id<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<App>) -> Result<Self, Problem> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|_| no_id("no id, or not in UTF-8"))?;
        text.parse().map(Self).map_err(no_id)
    }
}

/// Two ids in the path.
#[derive(Debug)]
pub struct Ids<A, B>(pub A, pub B);

impl<A, B> FromRequestParts<Arc<App>> for Ids<A, B>
where
    A: FromStr,
    A::Err: std::fmt::Display,
    B: FromStr,
    B::Err: std::fmt::Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<App>) -> Result<Self, Problem> {
        let Path((first, second)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| no_id("no ids, or not in UTF-8"))?;
        Ok(Self(first.parse().map_err(no_id)?, second.parse().map_err(no_id)?))
    }
}

fn no_id(why: impl std::fmt::Display) -> Problem {
    Refused::new(Code::InvalidId, format!("The path holds {why}.")).into()
}

/// The parameters of the query. Unknown and doubled ones are refused.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let wrong = |why: String| Problem::from(Refused::new(Code::InvalidQuery, why));
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("%00") {
            return Err(wrong("The query holds a NUL character.".to_owned()));
        }
        let Query(params) = Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| wrong(rejection.body_text()))?;
        Ok(Self(params))
    }
}

/// Points in time (RFC 3339) in bodies and queries, in UTC. At the edge of the calendar an offset leads out of it.
pub mod instant {
    use serde::{Deserializer, Serializer, de};
    use time::{OffsetDateTime, UtcOffset};

    /// Reads a point in time; absent and null are none.
    ///
    /// # Errors
    ///
    /// It is no point in time, or not between the years 0 and 9999 in UTC.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<OffsetDateTime>, D::Error> {
        let Some(local) = time::serde::rfc3339::option::deserialize(from)? else { return Ok(None) };
        let utc = local.checked_to_offset(UtcOffset::UTC).filter(|utc| (0..=9_999).contains(&utc.year()));
        utc.map(Some).ok_or_else(|| de::Error::custom("not a time between the years 0 and 9999 in UTC"))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// None that a deserialised one meets.
    pub fn serialize<S: Serializer>(at: &Option<OffsetDateTime>, to: S) -> Result<S::Ok, S::Error> {
        time::serde::rfc3339::option::serialize(at, to)
    }
}

/// The tag that a change is conditional on.
#[derive(Debug)]
pub struct IfMatch(pub Option<String>);

impl FromRequestParts<Arc<App>> for IfMatch {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Self::Rejection> {
        let tags: Vec<&str> =
            parts.headers.get_all(header::IF_MATCH).iter().filter_map(|tag| tag.to_str().ok()).collect();
        let present = parts.headers.contains_key(header::IF_MATCH);
        Ok(Self(present.then(|| tags.join(","))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Example {
        name: String,
        #[serde(default)]
        list: Vec<u8>,
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_with_its_place() {
        let cases = [
            (r#"{"name":1}"#, "invalid_fields", "/name"),
            (r#"{"name":"a","list":[1,"x"]}"#, "invalid_fields", "/list/1"),
            (r#"{"name":"a","other":1}"#, "invalid_fields", "/other"),
            (r#"{"name":"a","name":"b"}"#, "invalid_fields", "/name"),
            (r#"{"name":"a\u0000"}"#, "invalid_fields", "/name"),
            (r#"{"name":"#, "invalid_json", ""),
            ("[]", "invalid_json", ""),
            ("nul", "invalid_json", ""),
        ];
        for (body, code, pointer) in cases {
            let refused = read::<Example>(body.as_bytes()).unwrap_err();
            assert_eq!(refused.code.as_str(), code, "{body}");
            assert_eq!(
                refused.fields.first().map(|field| field.pointer.as_str()).unwrap_or_default(),
                pointer,
                "{body}"
            );
        }
        let missing = read::<Example>(b"{}").unwrap_err();
        assert_eq!(missing.fields[0].pointer, "/name", "{missing}");
        assert_eq!(read::<Example>(b"{\"name\":\"\xff\"}").unwrap_err().code, Code::InvalidJson, "bad UTF-8");
        assert_eq!(read::<Example>("[".repeat(100_000).as_bytes()).unwrap_err().code, Code::InvalidJson, "deep");
    }
}
