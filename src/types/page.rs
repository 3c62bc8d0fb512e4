//! Lists: newest first, a bounded number at a time, from a place that a cursor names.

use time::OffsetDateTime;

/// Items a page has unless asked otherwise.
pub const LIMIT_DEFAULT: i64 = 50;
/// Items a page has at most.
pub const LIMIT_MAX: i64 = 200;
/// Things that a page looks at. Where a filter leaves fewer than these, all of them are found, whatever their age; else a
/// page is of the newest of so many, and may be short, or empty, and yet not the last.
pub const LOOKED_AT_MAX: i64 = 10_000;

/// The ids that something was narrowed to; `None` when there are as many as a page looks at, or more.
#[must_use]
pub fn few(ids: Vec<Option<String>>) -> Option<Vec<String>> {
    let few = i64::try_from(ids.len()).is_ok_and(|found| found < LOOKED_AT_MAX);
    few.then(|| ids.into_iter().flatten().collect())
}

/// Whether a project was asked for that is not among the caller's: there is nothing to look for then.
#[must_use]
pub fn is_beyond(projects: Option<&[String]>, asked: Option<&String>) -> bool {
    projects.zip(asked).is_some_and(|(own, asked)| !own.contains(asked))
}

/// The last item of the page before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// When it was made.
    pub at: OffsetDateTime,
    /// Its id, for things made at the same time.
    pub id: String,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many items, 1 to [`LIMIT_MAX`].
    pub limit: i64,
    /// Only items older than this one.
    pub after: Option<After>,
}

impl Page {
    /// For statements: one more than wanted, so that the end is seen.
    #[must_use]
    pub const fn fetch(&self) -> i64 {
        self.limit + 1
    }

    /// For statements: the time of the item before.
    #[must_use]
    pub fn at(&self) -> Option<OffsetDateTime> {
        self.after.as_ref().map(|after| after.at)
    }

    /// For statements: the id of the item before.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.after.as_ref().map(|after| after.id.as_str())
    }

    /// Fewer were fetched than asked for.
    #[must_use]
    pub fn is_short(&self, fetched: usize) -> bool {
        i64::try_from(fetched).is_ok_and(|fetched| fetched < self.fetch())
    }

    /// Cuts what was fetched to the page, and says where the next one begins: after its last item, or after the last that was
    /// looked at.
    #[must_use]
    pub fn cut_at<T>(&self, items: Vec<T>, edge: Option<After>, place: impl Fn(&T) -> After) -> Listed<T> {
        let listed = self.cut(items, place);
        Listed { next: listed.next.or(edge), ..listed }
    }

    /// Cuts what was fetched to the page, and says where the next one begins.
    #[must_use]
    pub fn cut<T>(&self, mut items: Vec<T>, place: impl Fn(&T) -> After) -> Listed<T> {
        let limit = usize::try_from(self.limit).unwrap_or(0);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(place) } else { None };
        Listed { items, next }
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<After>,
}
