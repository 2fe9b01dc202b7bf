//! What handlers take from a request: a JSON body, the caller that a token authenticates, the client that a secret
//! authenticates, the source address.

mod bearer;
mod body;
mod client;
mod client_address;
mod if_match;
mod json;
mod members;

pub(super) use bearer::{Bearer, BearerBody, presented};
pub(super) use client::{BasicClient, ClientForm};
pub(super) use client_address::{Proxies, Source, UserAgent, client_address, comes_from_trusted_proxy};
pub(super) use if_match::{IfMatchHeader, etag};
pub(super) use json::Body;
pub(super) use members::{Claims, MemberFaults, Members, exactly_one, read_query};
