//! Lists on the wire: a bounded number of items, and a sealed cursor that belongs to one list and filter.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::refusal::{Code, Refused};
use crate::types::clock::Timestamp;
use crate::types::page::{After, LIMIT_DEFAULT, LIMIT_MAX, Listed, Page};

/// A cursor is good this long.
const CURSOR_SECONDS_MAX: i64 = 24 * 3_600;
const CURSOR_BYTES_MAX: usize = 1_024;

/// A page of a list.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Listing<T> {
    /// The items, newest first. A list of very many things that a filter leaves few of may have pages that are short, or
    /// empty: `next_cursor` alone says whether that was the end.
    pub items: Vec<T>,
    /// Asks for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    /// Which list and filter.
    l: String,
    /// The time of the last item, in microseconds.
    a: i64,
    /// Its id.
    i: String,
    /// When the cursor was made, in seconds.
    t: i64,
}

/// A list that is being read: its name and filter, and the page that is wanted.
pub struct Wanted<'a> {
    app: &'a App,
    list: String,
    /// The page.
    pub page: Page,
}

impl<'a> Wanted<'a> {
    /// Reads `limit` and `cursor`. `filter` is everything else that was asked: a cursor of another filter is refused.
    ///
    /// # Errors
    ///
    /// A limit out of bounds, or a cursor that is not ours, not of this list, or too old.
    pub fn new(
        app: &'a App,
        name: &str,
        filter: &impl Serialize,
        limit: Option<i64>,
        cursor: Option<&str>,
    ) -> Result<Self, Refused> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Refused::new(Code::InvalidQuery, format!("`limit` is 1 to {LIMIT_MAX}.")));
        }
        let mut filter = serde_json::to_value(filter).unwrap_or_default();
        if let Some(members) = filter.as_object_mut() {
            members.retain(|member, _| member != "limit" && member != "cursor");
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{name} {filter}").as_bytes());
        let list = URL_SAFE_NO_PAD.encode(digest.as_ref().get(..12).unwrap_or_default());
        let mut wanted = Self { app, list, page: Page { limit, after: None } };
        if let Some(cursor) = cursor {
            wanted.page.after = Some(wanted.open(cursor)?);
        }
        Ok(wanted)
    }

    /// The page as it is sent.
    #[must_use]
    pub fn listing<T>(&self, listed: Listed<T>) -> Listing<T> {
        Listing { items: listed.items, next_cursor: listed.next.map(|after| self.seal(&after)) }
    }

    fn seal(&self, after: &After) -> String {
        let at = Timestamp::from(after.at).micros();
        let cursor = Cursor { l: self.list.clone(), a: at, i: after.id.clone(), t: self.app.live.now().seconds() };
        // Sealed, not only signed: the search may have stopped at something that the caller may not see.
        let bytes = serde_json::to_vec(&cursor).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(self.app.live.keyring.seal_cursor(&bytes).unwrap_or_default())
    }

    fn open(&self, text: &str) -> Result<After, Refused> {
        let invalid = || Refused::new(Code::CursorInvalid, "The cursor is not one of ours.");
        if text.len() > CURSOR_BYTES_MAX {
            return Err(invalid());
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let bytes = self.app.live.keyring.open_cursor(&sealed).ok_or_else(invalid)?;
        let cursor: Cursor = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        if cursor.l != self.list {
            return Err(Refused::new(Code::CursorMismatch, "The cursor belongs to another list or filter."));
        }
        if self.app.live.now().seconds() - cursor.t > CURSOR_SECONDS_MAX {
            return Err(Refused::new(Code::CursorExpired, "The cursor is older than a day; begin the list anew."));
        }
        Ok(After { at: Timestamp::from_micros(cursor.a).to_utc(), id: cursor.i })
    }
}
