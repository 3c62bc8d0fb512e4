//! Production or development: a key of one is inactive on a server of the other.

/// Where a key or a server belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Production.
    #[default]
    Prod,
    /// Development.
    Dev,
}

impl Environment {
    /// Its name on the wire, in keys and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prod => "prod",
            Self::Dev => "dev",
        }
    }

    /// Reads the name; `None` for any other.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Prod, Self::Dev].into_iter().find(|environment| environment.as_str() == name)
    }
}
