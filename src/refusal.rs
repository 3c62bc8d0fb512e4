//! Why a room refuses: one closed list of codes, with the field or a sentence where there is more to say.
//!
//! `http/problem.rs` gives each code its status; docs/problems.md says what to do about it.

use std::fmt;

use crate::db;

/// A stable name for a kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// No such thing, or not one that the caller may see.
    NotFound,
    /// Fields are wrong; `errors` says which and why.
    InvalidFields,
    /// The body is not JSON.
    InvalidJson,
    /// A parameter of the query is wrong, unknown or doubled.
    InvalidQuery,
    /// The path holds something that is not an id of the right kind.
    InvalidId,
    /// The body has a media type that is not understood.
    UnsupportedMediaType,
    /// The body is too large.
    BodyTooLarge,
    /// No credential, or one that does not work.
    Unauthenticated,
    /// The operator lacks a scope.
    MissingScope,
    /// More rights would be given than the giver has.
    BeyondOwnRights,
    /// The field never changes.
    ImmutableField,
    /// The name is taken.
    NameTaken,
    /// The resource is registered, or was.
    ResourceTaken,
    /// The resource lies on a host that the project may not use.
    HostNotAllowed,
    /// The thing is still used.
    InUse,
    /// The default project stays.
    DefaultProject,
    /// A direct key would get a second server.
    DirectUndecided,
    /// An overlap of a rotation is still running.
    OverlapRunning,
    /// No overlap is running.
    NoOverlap,
    /// The job runs already.
    JobRunning,
    /// The key is revoked, for good.
    KeyRevoked,
    /// The key may not rotate itself.
    SelfRotationOff,
    /// There is a newer secret of the key.
    NotNewest,
    /// The last operator with all rights stays.
    LastOperator,
    /// The `If-Match` tag is not the current one.
    PreconditionFailed,
    /// The cursor was not made by us.
    CursorInvalid,
    /// The cursor belongs to another list or filter.
    CursorMismatch,
    /// The cursor is too old.
    CursorExpired,
    /// The `Idempotency-Key` was used for another request.
    IdempotencyKeyReused,
    /// The first request with this `Idempotency-Key` still runs, or its end is not known.
    IdempotencyKeyRunning,
    /// A secret stands in the URL.
    SecretInQuery,
    /// Too many failed attempts.
    TooManyFailures,
    /// The server has as many streams open as it may have.
    TooManyStreams,
    /// No such route.
    RouteNotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// The node cannot prove that it is current, or the database is away.
    TemporarilyUnavailable,
    /// The connection broke while committing: the change may be there or not.
    OutcomeUnknown,
    /// What happens could not be recorded, so it does not happen.
    AuditUnavailable,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 39] = [
        Self::NotFound,
        Self::InvalidFields,
        Self::InvalidJson,
        Self::InvalidQuery,
        Self::InvalidId,
        Self::UnsupportedMediaType,
        Self::BodyTooLarge,
        Self::Unauthenticated,
        Self::MissingScope,
        Self::BeyondOwnRights,
        Self::ImmutableField,
        Self::NameTaken,
        Self::ResourceTaken,
        Self::HostNotAllowed,
        Self::InUse,
        Self::DefaultProject,
        Self::DirectUndecided,
        Self::OverlapRunning,
        Self::NoOverlap,
        Self::JobRunning,
        Self::KeyRevoked,
        Self::SelfRotationOff,
        Self::NotNewest,
        Self::LastOperator,
        Self::PreconditionFailed,
        Self::CursorInvalid,
        Self::CursorMismatch,
        Self::CursorExpired,
        Self::IdempotencyKeyReused,
        Self::IdempotencyKeyRunning,
        Self::SecretInQuery,
        Self::TooManyFailures,
        Self::TooManyStreams,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::TemporarilyUnavailable,
        Self::OutcomeUnknown,
        Self::AuditUnavailable,
        Self::Internal,
    ];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::InvalidFields => "invalid_fields",
            Self::InvalidJson => "invalid_json",
            Self::InvalidQuery => "invalid_query",
            Self::InvalidId => "invalid_id",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::BodyTooLarge => "body_too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::MissingScope => "missing_scope",
            Self::BeyondOwnRights => "beyond_own_rights",
            Self::ImmutableField => "immutable_field",
            Self::NameTaken => "name_taken",
            Self::ResourceTaken => "resource_taken",
            Self::HostNotAllowed => "host_not_allowed",
            Self::InUse => "in_use",
            Self::DefaultProject => "default_project",
            Self::DirectUndecided => "direct_undecided",
            Self::OverlapRunning => "overlap_running",
            Self::NoOverlap => "no_overlap",
            Self::JobRunning => "job_running",
            Self::KeyRevoked => "key_revoked",
            Self::SelfRotationOff => "self_rotation_off",
            Self::NotNewest => "not_newest",
            Self::LastOperator => "last_operator",
            Self::PreconditionFailed => "precondition_failed",
            Self::CursorInvalid => "cursor_invalid",
            Self::CursorMismatch => "cursor_mismatch",
            Self::CursorExpired => "cursor_expired",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::IdempotencyKeyRunning => "idempotency_key_running",
            Self::SecretInQuery => "secret_in_query",
            Self::TooManyFailures => "too_many_failures",
            Self::TooManyStreams => "too_many_streams",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::AuditUnavailable => "audit_unavailable",
            Self::Internal => "internal",
        }
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where in the body (RFC 6901), or the parameter's name.
    pub pointer: String,
    /// What is wrong with it, for people.
    pub detail: String,
    /// What is wrong with it, for programs.
    pub code: String,
}

/// A refusal, or a failure of the database underneath.
#[derive(Debug)]
pub struct Refused {
    /// Which kind.
    pub code: Code,
    /// A sentence that is safe to show to the caller.
    pub detail: String,
    /// The fields that are wrong.
    pub fields: Vec<FieldError>,
    /// What went wrong underneath: for the log, never for the caller.
    pub cause: Option<db::Error>,
}

impl Refused {
    /// A refusal with a sentence.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), fields: Vec::new(), cause: None }
    }

    /// No such thing, as far as the caller may know.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("There is no such {what}, or you may not see it."))
    }

    /// The same failure, of what was read after a successful COMMIT: "not done" would be wrong.
    #[must_use]
    pub fn after_commit(self) -> Self {
        match self.cause {
            Some(cause) => cause.after_commit().into(),
            None => self,
        }
    }

    /// One wrong field.
    #[must_use]
    pub fn field(pointer: &str, code: &str, detail: impl Into<String>) -> Self {
        let mut checks = Checks::default();
        checks.wrong(pointer, code, detail);
        checks.refused()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.code.as_str(), self.detail)?;
        for field in &self.fields {
            write!(to, "; {}: {}", field.pointer, field.detail)?;
        }
        self.cause.as_ref().map_or(Ok(()), |cause| write!(to, " ({cause})"))
    }
}

impl std::error::Error for Refused {}

impl From<db::Error> for Refused {
    fn from(cause: db::Error) -> Self {
        let (code, detail) = match &cause {
            db::Error::OutcomeUnknown(_) => {
                (Code::OutcomeUnknown, "The connection to the database was lost: read whether the change is there.")
            }
            db::Error::Unrecorded(_) => (Code::AuditUnavailable, "The audit cannot be written, so nothing is changed."),
            error if error.is_passing() => (Code::TemporarilyUnavailable, "The database cannot answer now."),
            db::Error::Sqlx(_) => (Code::Internal, "Something went wrong here. It was logged under this request's id."),
        };
        Self { cause: Some(cause), ..Self::new(code, detail) }
    }
}

impl From<sqlx::Error> for Refused {
    fn from(cause: sqlx::Error) -> Self {
        db::Error::from(cause).into()
    }
}

/// Collects all that is wrong with a request's fields, so that its sender sees everything at once.
#[derive(Debug, Default)]
pub struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes a wrong field.
    pub fn wrong(&mut self, pointer: &str, code: &str, detail: impl Into<String>) {
        self.0.push(FieldError { pointer: pointer.to_owned(), detail: detail.into(), code: code.to_owned() });
    }

    /// Notes a wrong field unless `right`.
    pub fn expect(&mut self, right: bool, pointer: &str, code: &str, detail: &str) {
        if !right {
            self.wrong(pointer, code, detail);
        }
    }

    /// Checks a name for people: 1 to `max` characters, no control characters.
    pub fn name(&mut self, pointer: &str, text: &str, max: usize) {
        let length = text.chars().count();
        self.expect(length > 0 && length <= max, pointer, "length", &format!("1 to {max} characters"));
        self.expect(!text.chars().any(char::is_control), pointer, "control_character", "no control characters");
    }

    /// `Ok` when nothing was wrong.
    ///
    /// # Errors
    ///
    /// All that was noted.
    pub fn done(self) -> Result<(), Refused> {
        if self.0.is_empty() { Ok(()) } else { Err(self.refused()) }
    }

    fn refused(self) -> Refused {
        Refused {
            fields: self.0,
            ..Refused::new(Code::InvalidFields, "Fields of the request are wrong; `errors` says which.")
        }
    }
}
