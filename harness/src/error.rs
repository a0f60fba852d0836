//! What can go wrong in a run, by exit code.

use std::fmt;

/// Why a verb cannot go on. The kind is the exit code of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Usage, configuration, or a gate that could never fire.
    Usage,
    /// A worker crashed, hung or gave a wrong answer.
    Worker,
    /// Unreadable, foreign or newer document, or an I/O error.
    Document,
}

impl Kind {
    /// Exit code of the contract.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 2,
            Kind::Worker => 3,
            Kind::Document => 5,
        }
    }
}

/// An error that names the object, the operation and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Which exit code it leads to.
    pub kind: Kind,
    message: String,
}

/// Result of everything in the harness that can fail for the whole run.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Usage or configuration: exit 2.
    pub fn usage(message: impl Into<String>) -> Error {
        Error { kind: Kind::Usage, message: message.into() }
    }

    /// A worker: exit 3.
    pub fn worker(message: impl Into<String>) -> Error {
        Error { kind: Kind::Worker, message: message.into() }
    }

    /// A document or the file system: exit 5.
    pub fn document(message: impl Into<String>) -> Error {
        Error { kind: Kind::Document, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
