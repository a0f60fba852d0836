//! The border: text in, a checked document out, or the place of the fault.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::fmt;

/// Larger documents are refused unread: 256 MiB.
pub const MAX_BYTES: u64 = 256 << 20;

/// A document type: its schema name, and what types alone cannot promise of it.
pub trait Document: DeserializeOwned + JsonSchema {
    /// Name and major version, as in `switchmark.result/1`.
    const SCHEMA: &'static str;

    /// Checks what the types leave open; the error names the place.
    fn check(&self) -> Result<(), String>;
}

/// Why a text is not a document that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// Not JSON of this shape; the message says where.
    Malformed(String),
    /// JSON, but of another kind of document, or of none.
    Foreign {
        /// The schema name this reader knows.
        expected: &'static str,
        /// What the document calls itself.
        found: String,
    },
    /// The right kind of document in a major version this reader does not know.
    OtherVersion {
        /// The schema name this reader knows.
        expected: &'static str,
        /// What the document calls itself.
        found: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Malformed(place) => write!(f, "malformed document: {place}"),
            ReadError::Foreign { expected, found } => {
                write!(f, "foreign document: expected schema `{expected}`, found {found}")
            }
            ReadError::OtherVersion { expected, found } => write!(
                f,
                "document of another major version: it is `{found}`, this switchmark reads `{expected}`; \
                 use the switchmark that wrote it"
            ),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads a document: first its schema name, then the whole, then what the types leave open.
pub fn read<D: Document>(text: &str) -> Result<D, ReadError> {
    #[derive(serde::Deserialize)]
    struct Name {
        schema: Option<String>,
    }
    let name: Name = serde_json::from_str(text).map_err(|e| ReadError::Malformed(e.to_string()))?;
    let expected = D::SCHEMA;
    match name.schema {
        None => {
            return Err(ReadError::Foreign { expected, found: "no schema name".into() });
        }
        Some(found) if found == expected => {}
        Some(found) => {
            let kind = |s: &str| s.rsplit_once('/').map(|(kind, _)| kind.to_owned());
            return Err(if kind(&found) == kind(expected) {
                ReadError::OtherVersion { expected, found }
            } else {
                ReadError::Foreign { expected, found: format!("`{found}`") }
            });
        }
    }
    let document: D = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text))
        .map_err(|e| ReadError::Malformed(format!("at {}: {}", e.path(), e.inner())))?;
    document.check().map_err(ReadError::Malformed)?;
    Ok(document)
}

/// The JSON Schema of a document, pretty-printed.
pub fn json_schema<D: Document>() -> String {
    serde_json::to_string_pretty(&schemars::schema_for!(D)).expect("a schema is plain JSON")
}
