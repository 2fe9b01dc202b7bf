//! The header `If-Match`: the versions of a user that a client expects (RFC 9110 §13.1.1).

use crate::http::problem::Problem;
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap},
};
use std::{
    convert::Infallible,
    future::{Ready, ready},
};

/// The header `ETag` of a version.
pub fn etag(version: &str) -> String {
    format!("\"{version}\"")
}

/// Extracts the header, for [`IfMatchHeader::parse`]: the caller is checked first, whatever the header says.
pub struct IfMatchHeader(Option<IfMatch>);

impl IfMatchHeader {
    /// # Errors
    /// The header is malformed.
    pub fn parse(self) -> Result<IfMatch, Problem> {
        let malformed = || Problem::Malformed("The header If-Match must be * or the ETag of a user.".to_owned());
        self.0.ok_or_else(malformed)
    }
}

impl FromRequest for IfMatchHeader {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(IfMatch::parse(request.headers()))))
    }
}

/// The versions that the client expects.
#[derive(Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// No header, or `*`.
    Any,
    /// Each in its quotes, without those that are weak: they match nothing.
    OneOf(Vec<String>),
}

impl IfMatch {
    pub fn allows(&self, version: &str) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(&etag(version)),
        }
    }

    /// `None` for a malformed header.
    fn parse(headers: &HeaderMap) -> Option<Self> {
        let lines: Option<Vec<&str>> = headers.get_all(header::IF_MATCH).map(|line| line.to_str().ok()).collect();
        let list = lines?.join(",");
        if !headers.contains_key(header::IF_MATCH) || list.trim() == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = list.trim();
        loop {
            let is_weak = rest.starts_with("W/");
            let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
            let (tag, behind) = quoted.split_once('"')?;
            if !tag.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            if !is_weak {
                tags.push(etag(tag));
            }
            let behind = behind.trim_start();
            if behind.is_empty() {
                return Some(Self::OneOf(tags));
            }
            rest = behind.strip_prefix(',')?.trim_start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn the_header_is_a_star_or_a_list_of_entity_tags() {
        let one_of = |tags: &[&str]| Some(IfMatch::OneOf(tags.iter().map(|tag| etag(tag)).collect()));
        let rows: Vec<(&[&str], Option<IfMatch>)> = vec![
            (&[], Some(IfMatch::Any)),
            (&["*"], Some(IfMatch::Any)),
            (&[" * "], Some(IfMatch::Any)),
            (&["\"a\""], one_of(&["a"])),
            (&["\"a\", \"b,c\" ,\"\""], one_of(&["a", "b,c", ""])),
            (&["\"a\"", "\"b\""], one_of(&["a", "b"])),
            (&["W/\"a\", \"b\""], one_of(&["b"])),
            (&["W/\"a\""], one_of(&[])),
            (&[""], None),
            (&["a"], None),
            (&["\"a"], None),
            (&["a\""], None),
            (&["\"a\" \"b\""], None),
            (&["\"a\","], None),
            (&["*, \"a\""], None),
            (&["\"a b\""], None),
            (&["w/\"a\""], None),
        ];
        for (lines, expected) in &rows {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(header::IF_MATCH, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(IfMatch::parse(&headers), *expected, "{lines:?}");
        }
        println!("If-Match: {} cases", rows.len());
    }
}
