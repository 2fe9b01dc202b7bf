//! Keyset pagination: the last page of a long list costs as much as the first.

use super::{Email, Invalid, User, UserId};

/// How many users a page holds: 1 to 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(i64);

impl Limit {
    pub const MAX: Self = Self(200);

    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(limit @ 1..=200) if !text.starts_with('+') => Ok(Self(limit)),
            _ => Err(Invalid("must be a whole number from 1 to 200")),
        }
    }

    pub fn get(self) -> i64 {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

/// Which users a page contains, in which order, and after which user it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserCursor {
    /// All, by id.
    ById { after: UserId },
    /// Those whose e-mail begins with `prefix`, by e-mail; both are keys (see [`Email::key`]).
    ByEmail { prefix: String, after: Option<String> },
}

impl UserCursor {
    /// Parses `q` and `after` of a request; `after` is an e-mail if there is a `q`, else an id. An error names the parameter.
    pub fn parse(q: Option<&str>, after: Option<&str>) -> Result<Self, (&'static str, Invalid)> {
        let Some(q) = q else {
            let after = after.map_or(Some(UserId(0)), UserId::parse);
            let after = after.ok_or(("after", Invalid("must be the id of the last user of the previous page")))?;
            return Ok(Self::ById { after });
        };
        let prefix = Email::prefix(q).map_err(|fault| ("q", fault))?;
        // Not `Email::parse`: it may have become stricter since that address was stored.
        let is_email = |text: &&str| text.contains('@') && !text.chars().any(char::is_control);
        if after.is_some_and(|after| !is_email(&after)) {
            return Err(("after", Invalid("must be the e-mail of the last user of the previous page")));
        }
        let after = after.map(Email::key_of);
        Ok(Self::ByEmail { prefix, after })
    }

    /// The value of `after` for the page after the one that ends with `last`.
    pub fn next_after(&self, last: &User) -> String {
        match self {
            Self::ById { .. } => last.id.to_string(),
            Self::ByEmail { .. } => last.email.key().to_owned(),
        }
    }
}

/// A page, and whether more pages follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub has_more: bool,
}

impl<T> Page<T> {
    /// Makes a page of `limit` items from a query for `limit + 1`.
    pub fn cut(mut items: Vec<T>, limit: Limit) -> Self {
        let limit = usize::try_from(limit.0).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        Self { items, has_more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_lies_between_1_and_200() {
        for (text, limit) in [("1", 1), ("50", 50), ("200", 200)] {
            assert_eq!(Limit::parse(text), Ok(Limit(limit)));
        }
        for text in ["", "0", "-1", "201", "abc", "+5", "1.0", "1e2", " 1", "99999999999999999999"] {
            assert!(Limit::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn after_is_an_email_with_q_and_an_id_without() {
        assert_eq!(UserCursor::parse(None, None), Ok(UserCursor::ById { after: UserId(0) }));
        assert!(UserCursor::parse(None, Some("ann@example.com")).is_err());
        assert!(UserCursor::parse(Some("a"), Some("7")).is_err());
        assert!(UserCursor::parse(Some("a\0"), None).is_err());
        let by_email = UserCursor::parse(Some("An"), Some("ANN@example.com"));
        assert_eq!(by_email, Ok(UserCursor::ByEmail { prefix: "an".into(), after: Some("ann@example.com".into()) }));
    }

    proptest! {
        #[test]
        fn no_query_makes_parsing_panic(q in any::<Option<String>>(), after in any::<Option<String>>(), limit in any::<String>()) {
            let _ = (UserCursor::parse(q.as_deref(), after.as_deref()), Limit::parse(&limit));
        }

        #[test]
        fn every_limit_survives_the_round_trip(limit in 1..=200i64) {
            prop_assert_eq!(Limit::parse(&limit.to_string()).map(Limit::get), Ok(limit));
        }
    }
}
