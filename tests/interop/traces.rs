//! Traces over OTLP, as a collector gets them

use crate::support::process::Service;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::Span,
};
use prost::Message;
use reqwest::Method;
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

/// Somebody who collects traces over OTLP/HTTP, on threads of its own: every body that came.
fn collector() -> (String, Arc<Mutex<Vec<ExportTraceServiceRequest>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collected = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&collected);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let into = Arc::clone(&into);
            thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                let (mut length, mut line) = (0, String::new());
                while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                    let header = line.to_ascii_lowercase();
                    assert!(!header.starts_with("post ") || header.starts_with("post /v1/traces "), "{header}");
                    if let Some(value) = header.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line == "\r\n" {
                        let mut body = vec![0; length];
                        stream.read_exact(&mut body).unwrap();
                        into.lock().unwrap().push(ExportTraceServiceRequest::decode(&body[..]).unwrap());
                        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    }
                    line.clear();
                }
            });
        }
    });
    (endpoint, collected)
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a Any> {
    attributes.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()
}

#[tokio::test]
async fn traces_go_to_a_collector_with_what_each_request_did() {
    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    let (endpoint, collected) = collector();
    let folder = tempfile::tempdir().unwrap();
    let settings = [("SIGNET__TELEMETRY__OTLP_ENDPOINT", &*endpoint), ("SIGNET__SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    let mut service = Service::start(folder.path(), &settings);
    let credentials = json!({"email": "canary@example.com", "password": "canary horse battery"});
    assert_eq!(service.anon().post("/auth/create", &credentials).await.status, 201);
    let send = |request: reqwest::RequestBuilder| {
        let request = request.header("traceparent", format!("00-{TRACE:032x}-b7ad6b7169203331-01"));
        request.header("content-type", "application/json").body(credentials.to_string())
    };
    assert_eq!(service.anon().send(Method::POST, "/auth/signin", send).await.status, 200);
    service.anon().get("/nowhere").await;
    assert_eq!(service.signal("TERM"), Some(0), "what is left is sent at the end");

    let collected = collected.lock().unwrap();
    let resources: Vec<_> = collected.iter().flat_map(|request| &request.resource_spans).collect();
    let service_name = attribute(&resources[0].resource.as_ref().unwrap().attributes, "service.name");
    assert_eq!(service_name, Some(&Any::StringValue("signet".to_owned())));
    let spans: Vec<&Span> =
        resources.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).collect();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).copied().collect::<Vec<_>>();
    let sign_in = named("POST /auth/signin")[0];
    assert_eq!(sign_in.trace_id, TRACE.to_be_bytes(), "it is a part of the caller's trace");
    assert_eq!(attribute(&sign_in.attributes, "http.response.status_code"), Some(&Any::IntValue(200)));
    assert_eq!(attribute(&sign_in.attributes, "http.route"), Some(&Any::StringValue("/auth/signin".to_owned())));
    for part in ["hash", "database"] {
        let of_it = named(part).into_iter().filter(|span| span.parent_span_id == sign_in.span_id);
        assert!(of_it.count() > 0, "{part} in {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    }
    assert_eq!(named("GET -").len(), 1);
    assert!(!format!("{collected:?}").contains("canary"), "no secret, no address");
}

/// A trace is the operator's: it begins in a proxy of theirs.
#[tokio::test]
async fn a_client_that_is_no_trusted_proxy_joins_no_trace() {
    let (endpoint, collected) = collector();
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(folder.path(), &[("SIGNET__TELEMETRY__OTLP_ENDPOINT", &*endpoint)]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    service.anon().send(Method::GET, "/livez", |request| request.header("traceparent", trace)).await;
    assert_eq!(service.signal("TERM"), Some(0));
    let collected = format!("{:?}", collected.lock().unwrap());
    let theirs = format!("{:?}", 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert!(collected.contains("GET /livez") && !collected.contains(theirs.trim_matches(['[', ']'])), "{collected}");
}

/// Nobody waits for a collector that is away.
#[tokio::test]
async fn a_collector_that_is_away_costs_nobody_anything() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("http://{free}");
    let mut service = Service::start(folder.path(), &[("SIGNET__TELEMETRY__OTLP_ENDPOINT", &endpoint)]);
    for _ in 0..20 {
        assert_eq!(service.anon().get("/readyz").await.status, 200);
    }
    assert_eq!(service.signal("TERM"), Some(0));
    let log = service.log();
    assert_eq!(log.matches("the collector takes no traces").count(), 1, "{log}");
}
