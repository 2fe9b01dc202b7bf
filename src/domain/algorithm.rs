//! The algorithms that sign access tokens.

use strum::{EnumIter, EnumString, IntoEnumIterator, IntoStaticStr, VariantNames};

/// A signature algorithm of RFC 7518 §3.1 or RFC 8037 §3.1. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames, EnumIter)]
#[strum(serialize_all = "UPPERCASE")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    #[strum(serialize = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        Self::iter()
    }

    /// The name in the header of a token.
    pub fn name(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// The minimum length of a shared secret, in bytes: that of the hash (RFC 7518 §3.2). `None` for an algorithm with
    /// key pairs.
    pub fn secret_length(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
            _ => None,
        }
    }
}
