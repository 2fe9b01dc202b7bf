//! The address of a client: that of its connection, or the one that a trusted proxy reports.

use crate::{
    domain::{AuditContext, Timestamp},
    http::{State, middleware::RequestId},
};
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap},
    web::Data,
};
use ipnet::IpNet;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

/// The proxies whose header about the client is trusted.
pub struct Proxies {
    /// The one header that is read, in lower case.
    header: String,
    trusted: Vec<IpNet>,
    /// Whether the log has warned about that header from an untrusted peer.
    has_warned: AtomicBool,
}

impl Proxies {
    pub fn new(header: &str, trusted: Vec<IpNet>) -> Self {
        Self { header: header.to_ascii_lowercase(), trusted, has_warned: AtomicBool::new(false) }
    }

    /// The client's address. Each proxy appends the address that it sees, so the client is the first address from the
    /// right that is not a trusted proxy: the client itself may have written everything left of it. An invalid entry
    /// ends the search.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            if headers.contains_key(&self.header) && !self.has_warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    header = self.header,
                    client.ip = %peer,
                    "ignored this header: it does not come from one of server.trusted_proxies (logged once)"
                );
            }
            return peer;
        }
        let is_forwarded = self.header == "forwarded";
        let lines: Vec<&[u8]> = headers.get_all(&self.header).map(header::HeaderValue::as_bytes).collect();
        let mut client = peer;
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
            let hop = std::str::from_utf8(hop).unwrap_or_default();
            let Some(address) = address(if is_forwarded { parameter_for(hop) } else { hop }) else { break };
            client = address;
            if !self.trusts(address) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// The parameter `for` of an element of `Forwarded` (RFC 7239 §4).
fn parameter_for(element: &str) -> &str {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, value)| value);
    values.next().unwrap_or_default()
}

/// Parses an address with or without port, quotes and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// The address of the client, if the connection has one.
pub fn client_address(state: &State, request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    Some(state.proxies.client(peer, request.headers()))
}

/// Whether the other end of the connection is one of `server.trusted_proxies`.
pub fn comes_from_trusted_proxy(state: &State, request: &HttpRequest) -> bool {
    request.peer_addr().is_some_and(|peer| state.proxies.trusts(peer.ip().to_canonical()))
}

/// Extracts where a request comes from.
pub struct Source {
    address: Option<IpAddr>,
    request_id: String,
}

impl Source {
    pub fn at(self, now: Timestamp) -> AuditContext {
        AuditContext { at: now, actor: None, address: self.address, request_id: Some(self.request_id) }
    }
}

impl FromRequest for Source {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let state = request.app_data::<Data<State>>();
        let address = state.and_then(|state| client_address(state, request));
        ready(Ok(Self { address, request_id: RequestId::of(request).0 }))
    }
}

/// Extracts the beginning of the header `User-Agent`.
pub struct UserAgent(pub Option<String>);

impl FromRequest for UserAgent {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let header = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        ready(Ok(Self(header.map(|text| text.chars().take(256).collect()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy() {
        let trusted = || ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec();
        let xff = "x-forwarded-for";
        // The header, its lines, the peer, the client.
        let rows: &[(&str, &[&str], &str, &str)] = &[
            (xff, &[], "10.0.0.1", "10.0.0.1"),
            (xff, &["203.0.113.7"], "10.0.0.1", "203.0.113.7"),
            (xff, &["203.0.113.7"], "::ffff:10.0.0.1", "203.0.113.7"),
            (xff, &["203.0.113.7"], "192.0.2.1", "192.0.2.1"),
            (xff, &["6.6.6.6, 203.0.113.7"], "10.0.0.1", "203.0.113.7"),
            (xff, &["6.6.6.6", "203.0.113.7"], "10.0.0.1", "203.0.113.7"),
            (xff, &["203.0.113.7, 10.2.3.4"], "10.0.0.1", "203.0.113.7"),
            (xff, &["203.0.113.7", "10.2.3.4 , 10.2.3.5"], "10.0.0.1", "203.0.113.7"),
            (xff, &["10.9.9.9, 10.2.3.4"], "10.0.0.1", "10.9.9.9"),
            (xff, &["203.0.113.7:4711"], "10.0.0.1", "203.0.113.7"),
            (xff, &["2001:db8::7"], "fd00::1", "2001:db8::7"),
            (xff, &["[2001:db8::7]:4711"], "fd00::1", "2001:db8::7"),
            (xff, &["::ffff:203.0.113.7"], "10.0.0.1", "203.0.113.7"),
            (xff, &["6.6.6.6, unknown"], "10.0.0.1", "10.0.0.1"),
            (xff, &["6.6.6.6, , 10.2.3.4"], "10.0.0.1", "10.2.3.4"),
            (xff, &["6.6.6.6,"], "10.0.0.1", "10.0.0.1"),
            (xff, &["6.6.6.6, 300.1.1.1"], "10.0.0.1", "10.0.0.1"),
            (xff, &["6.6.6.6:x"], "10.0.0.1", "10.0.0.1"),
            (xff, &["6.6.6.6:70000"], "10.0.0.1", "10.0.0.1"),
            (xff, &["[2001:db8::7]x"], "10.0.0.1", "10.0.0.1"),
            (xff, &["[2001:db8::7]"], "10.0.0.1", "2001:db8::7"),
            ("x-real-ip", &["203.0.113.7"], "10.0.0.1", "203.0.113.7"),
            ("forwarded", &["for=6.6.6.6, for=203.0.113.7;proto=https"], "10.0.0.1", "203.0.113.7"),
            ("forwarded", &["proto=https;For=\"[2001:db8::7]:4711\""], "10.0.0.1", "2001:db8::7"),
            ("forwarded", &["for=6.6.6.6, for=_hidden"], "10.0.0.1", "10.0.0.1"),
            ("forwarded", &["203.0.113.7"], "10.0.0.1", "10.0.0.1"),
        ];
        for (header, lines, peer, client) in rows {
            let mut headers = HeaderMap::new();
            // Other headers of this kind are ignored.
            headers.append(HeaderName::from_static("true-client-ip"), HeaderValue::from_static("6.6.6.6"));
            for line in *lines {
                headers.append(header.parse().unwrap(), HeaderValue::from_str(line).unwrap());
            }
            let found = Proxies::new(header, trusted()).client(peer.parse().unwrap(), &headers);
            assert_eq!(found.to_string(), *client, "{header}: {lines:?} from {peer}");
        }
        println!("forwarded headers: {} cases", rows.len());
    }
}
