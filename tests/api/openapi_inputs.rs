//! Generated inputs for each operation of the OpenAPI document: the service never answers 400 to an input that a schema
//! allows, and refuses every input that it forbids. `SIGNET_TEST_SEED` changes the values.
//!
//! The generator supports the part of JSON Schema that the document uses and panics at any other keyword. A validator
//! that is independent of the generator checks each value before it is sent.

use crate::support::{self, PASSWORD, Reply, SignedIn, TestApp, actor::DOCUMENT, seed};
use proptest::{
    prelude::*,
    sample::select,
    strategy::{Union, ValueTree},
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// How many valid inputs each operation gets.
const VALID: usize = 40;

/// How many invalid inputs each operation gets at least.
const INVALID: usize = 60;

/// How many faults of each operation are shown: one missing annotation causes many.
const SHOWN: usize = 5;

/// An audience of the service.
const AUDIENCE: &str = "https://orders.example.com";

type Members = Map<String, Value>;

/// How to call an operation so that it can succeed.
struct Call {
    operation: &'static str,
    /// Values with which the operation succeeds for this user. They replace generated values of the same name.
    right: fn(&SignedIn, &Members) -> Value,
    /// Whether generated values are always replaced: a schema cannot state a rule that involves two values.
    is_always_right: bool,
}

const CALLS: &[Call] = &[
    Call { operation: "POST /auth/create", right: |_, _| json!({}), is_always_right: false },
    Call {
        operation: "POST /auth/signin",
        right: |user, _| json!({ "email": user.email, "username": user.email, "password": PASSWORD }),
        is_always_right: false,
    },
    Call {
        operation: "POST /auth/refresh-access",
        right: |user, _| json!({ "refresh_token": user.refresh }),
        is_always_right: false,
    },
    Call {
        operation: "POST /auth/signout",
        right: |user, _| json!({ "refresh_token": user.refresh }),
        is_always_right: false,
    },
    Call {
        operation: "POST /auth/password",
        right: |_, _| json!({ "current_password": PASSWORD }),
        is_always_right: false,
    },
    Call {
        operation: "GET /auth/users",
        // With `q`, `after` is an e-mail address; without `q`, it is a user id.
        right: |user, query| {
            let after = if query.contains_key("q") { user.email.clone() } else { user.id.to_string() };
            json!({ "after": after })
        },
        is_always_right: true,
    },
    Call {
        operation: "PATCH /auth/users/me",
        // The user's own e-mail is the only one that may be a username.
        right: |user, _| json!({ "username": user.email }),
        is_always_right: false,
    },
    Call {
        operation: "PATCH /auth/users/{id}",
        right: |user, _| json!({ "username": user.email, "is_active": true, "is_superuser": true }),
        is_always_right: false,
    },
    Call { operation: "PUT /auth/users/{id}/password", right: |_, _| json!({}), is_always_right: false },
    Call { operation: "POST /auth/email", right: |_, _| json!({ "password": PASSWORD }), is_always_right: false },
    Call { operation: "POST /auth/password/reset", right: |_, _| json!({}), is_always_right: false },
    Call { operation: "POST /auth/password/reset/confirm", right: |_, _| json!({}), is_always_right: false },
    Call { operation: "POST /auth/verify-email/confirm", right: |_, _| json!({}), is_always_right: false },
    Call { operation: "GET /auth/audit", right: |_, _| json!({}), is_always_right: false },
    Call { operation: "GET /auth/verify", right: |_, _| json!({}), is_always_right: false },
    Call { operation: "POST /auth/api-keys", right: |_, _| json!({ "password": PASSWORD }), is_always_right: false },
    // `wait` must be 0, so that the request does not wait.
    Call { operation: "GET /auth/revocations", right: |_, _| json!({ "after": 0, "wait": 0 }), is_always_right: true },
];

/// Operations that succeed only with what a mail says; `mail.rs` tests them.
const NEED_A_MAIL: [&str; 2] = ["POST /auth/password/reset/confirm", "POST /auth/verify-email/confirm"];

/// An operation of the document that has an input: a JSON body or a query.
struct Operation {
    name: String,
    method: Method,
    path: String,
    has_body: bool,
    has_token: bool,
    /// Whether a client authenticates, not a user.
    is_of_client: bool,
    /// Whether it is for superusers. The user of the path is the caller.
    is_administration: bool,
    /// The schema of the body, or of the query as an object.
    schema: Value,
}

fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = format!("{} {path}", method.to_uppercase());
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let query = query_schema(operation);
            assert!(body.is_null() || query.is_null(), "{name}: this test cannot send a body together with a query");
            let has_body = body.is_object();
            let schema = if has_body { body.clone() } else { query };
            if schema.is_object() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let has_token = operation["security"].is_array();
                let is_of_client = operation["security"][0]["client"].is_array();
                let is_administration = operation["tags"].as_array().unwrap().contains(&json!("Administration"));
                let path = path.clone();
                operations.push(Operation {
                    name,
                    method,
                    path,
                    has_body,
                    has_token,
                    is_of_client,
                    is_administration,
                    schema,
                });
            }
        }
    }
    operations
}

/// The query parameters as the members of an object; `null` if there are none. The service refuses parameters that the
/// document does not list.
fn query_schema(operation: &Value) -> Value {
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let query: Vec<&Value> = parameters.iter().filter(|parameter| parameter["in"] == "query").collect();
    if query.is_empty() {
        return Value::Null;
    }
    let name = |parameter: &Value| parameter["name"].as_str().unwrap().to_owned();
    let properties: Members = query.iter().map(|one| (name(one), one["schema"].clone())).collect();
    let required: Vec<String> = query.iter().filter(|one| one["required"] == true).map(|one| name(one)).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

impl Operation {
    fn call(&self) -> &'static Call {
        let call = CALLS.iter().find(|call| call.operation == self.name);
        call.unwrap_or_else(|| panic!("{}: add it to CALLS in tests/api/openapi_inputs.rs", self.name))
    }

    /// Replaces generated values with those that let the operation succeed.
    fn put_right(&self, input: &mut Members, user: &SignedIn) {
        let right = (self.call().right)(user, input);
        replace(input, &right);
    }

    /// A user who may call this operation.
    async fn user(&self, app: &TestApp) -> SignedIn {
        if self.is_administration { app.superuser().await } else { app.user().await }
    }

    async fn send(&self, app: &TestApp, user: &SignedIn, input: &Value) -> Reply {
        let path = self.path.replace("{id}", &user.id.to_string());
        let _sent = Sent { operation: &self.name, input };
        let anon = app.anon();
        let client = if self.is_of_client { Some(app.client("", &[]).await.actor) } else { None };
        let actor = client.as_ref().unwrap_or(if self.has_token { &user.actor } else { &anon });
        if self.has_body {
            actor.send(self.method.clone(), &path, |request| request.json(input)).await
        } else {
            let path = format!("{path}?{}", query_string(input));
            actor.send(self.method.clone(), &path, |request| request).await
        }
    }
}

/// Replaces the members of `input` that are not null.
fn replace(input: &mut Members, right: &Value) {
    for (name, value) in right.as_object().unwrap() {
        if let Some(place) = input.get_mut(name).filter(|place| !place.is_null()) {
            *place = value.clone();
        }
    }
}

/// A service that has an audience and sends mail.
async fn start(mails: &TempDir) -> TestApp {
    let url = format!("file:{}", mails.path().display());
    TestApp::with(&[("MAIL__SMTP_URL", &url), ("JWT__AUDIENCES", AUDIENCE)]).await
}

/// Prints the input when a check of the reply panics.
struct Sent<'a> {
    operation: &'a str,
    input: &'a Value,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{} was sent {}", self.operation, self.input);
        }
    }
}

fn query_string(input: &Value) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in input.as_object().unwrap() {
        match value {
            Value::Null => {}
            Value::String(text) => {
                query.append_pair(name, text);
            }
            other => {
                query.append_pair(name, &other.to_string());
            }
        }
    }
    query.finish()
}

#[test]
fn every_operation_with_an_input_is_tested() {
    let mut documented: Vec<String> = operations().into_iter().map(|operation| operation.name).collect();
    let mut called: Vec<&str> = CALLS.iter().map(|call| call.operation).collect();
    documented.sort_unstable();
    called.sort_unstable();
    assert_eq!(documented, called, "CALLS names each operation of the document that has a JSON body or a query");
}

#[tokio::test]
async fn an_input_that_the_document_allows_is_never_answered_with_400() {
    let folder = tempfile::tempdir().unwrap();
    let app = start(&folder).await;
    let (seed, mut runner) = runner();
    let mut report = Vec::new();
    for operation in operations() {
        let name = &operation.name;
        let (inputs, validator) = (valid_inputs(&operation.schema), validator_of(&operation.schema));
        let mut user = operation.user(&app).await;
        let (mut succeeded, mut faults) = (0, Vec::new());
        for case in 0..VALID {
            let mut input = sample(&mut runner, &inputs);
            if case.is_multiple_of(2) || operation.call().is_always_right {
                operation.put_right(&mut input, &user);
            }
            // The settings decide which audiences are valid.
            replace(&mut input, &json!({ "audience": AUDIENCE }));
            let input = Value::Object(input);
            let objections: Vec<String> =
                validator.iter_errors(&input).map(|objection| objection.to_string()).collect();
            if !objections.is_empty() {
                faults
                    .push(format!("{name}: generated as valid, but the validator rejects it: {input}: {objections:?}"));
                continue;
            }
            let reply = operation.send(&app, &user, &input).await;
            match reply.status {
                200..=299 => {
                    succeeded += 1;
                    // The operation may have ended the session or changed the password.
                    user = operation.user(&app).await;
                }
                401 | 403 | 409 | 410 | 503 => {}
                // No schema can say which passwords are easy to guess.
                400 if reply.code() == "weak-password" => {}
                status => faults
                    .push(format!("{name}: the document allows {input}, but the reply is {status} {}", reply.text)),
            }
        }
        if succeeded == 0 && !NEED_A_MAIL.contains(&name.as_str()) {
            faults.push(format!("{name}: no input succeeded; add valid values to CALLS"));
        }
        println!("{name}: {VALID} valid inputs, {succeeded} succeeded, {} faults", faults.len());
        report.extend(faults.into_iter().take(SHOWN));
    }
    assert!(report.is_empty(), "SIGNET_TEST_SEED={seed}:\n{}", report.join("\n"));
}

#[tokio::test]
async fn every_example_of_a_request_body_is_valid() {
    let app = TestApp::start().await;
    let mut examples = 0;
    for operation in operations() {
        let user = operation.user(&app).await;
        let reference = operation.schema["$ref"].as_str().unwrap_or_default();
        let example = &DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap()["example"];
        if !example.is_null() {
            let reply = operation.send(&app, &user, example).await;
            assert_ne!(reply.status, 400, "{}: {}", operation.name, reply.text);
            examples += 1;
        }
    }
    assert_eq!(examples, 11);
}

#[tokio::test]
async fn an_input_that_the_document_forbids_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let app = start(&folder).await;
    let (seed, mut runner) = runner();
    let mut report = Vec::new();
    for operation in operations() {
        let name = &operation.name;
        let (mutations, validator) =
            (mutations(&operation.schema, operation.has_body), validator_of(&operation.schema));
        let user = operation.user(&app).await;
        let cases = INVALID.max(mutations.len());
        let mut faults = Vec::new();
        for mutation in mutations.iter().cycle().take(cases) {
            let what = &mutation.what;
            let mut input = sample(&mut runner, &mutation.base);
            // Without the mutation the input would succeed.
            operation.put_right(&mut input, &user);
            let input = mutation.apply(input, &mut runner);
            if validator.is_valid(&input) {
                faults.push(format!("{name}: {what}: generated as invalid, but the validator accepts it: {input}"));
                continue;
            }
            let reply = operation.send(&app, &user, &input).await;
            let is_refused = reply.status == 400 || (operation.has_token && reply.status == 401);
            if !is_refused {
                let (status, text) = (reply.status, reply.text);
                faults.push(format!("{name}: {what}: the document forbids {input}, but the reply is {status} {text}"));
            }
        }
        println!("{name}: {cases} invalid inputs of {} kinds, {} faults", mutations.len(), faults.len());
        report.extend(faults.into_iter().take(SHOWN));
    }
    assert!(report.is_empty(), "SIGNET_TEST_SEED={seed}:\n{}", report.join("\n"));
}

#[test]
fn generator_and_validator_agree_on_every_keyword() {
    let username = r"^([\p{L}\p{N}.+_-][\p{L}\p{M}\p{N}.+_-]*|[^@]+@[^@]+)$";
    let username = json!({ "type": ["string", "null"], "minLength": 1, "maxLength": 150, "pattern": username });
    let password =
        json!({ "type": "string", "format": "password", "minLength": 8, "maxLength": 256, "pattern": r"^[^\x00]*$" });
    let word = json!({ "type": "string", "minLength": 3, "maxLength": 9 });
    let schema = json!({ "oneOf": [{
        "type": "object",
        "required": ["email", "kind"],
        "additionalProperties": false,
        "properties": {
            "email": { "type": "string", "format": "email", "maxLength": 254 },
            "username": username,
            "password": password,
            "id": { "type": "string", "format": "uuid" },
            "code": { "type": "string", "pattern": "^[0-9]{6}$" },
            "kind": { "type": "string", "enum": ["a", "b"] },
            "count": { "type": "integer", "format": "int64", "minimum": 1, "maximum": 200 },
            "flag": { "type": "boolean", "default": false },
            "any": { "anyOf": [{ "type": "integer" }, { "type": "boolean" }] },
            "one": { "oneOf": [{ "type": "null" }, { "$ref": "#/components/schemas/CreateRequest" }] },
        },
    }, {
        "type": "object",
        "required": ["word"],
        "additionalProperties": false,
        "properties": { "word": word },
    }]});
    let validator = validator_of(&schema);
    let (seed, mut runner) = runner();
    let inputs = valid_inputs(&schema);
    for _ in 0..400 {
        let input = Value::Object(sample(&mut runner, &inputs));
        let objections: Vec<String> = validator.iter_errors(&input).map(|objection| objection.to_string()).collect();
        assert!(objections.is_empty(), "SIGNET_TEST_SEED={seed}: {input}: {objections:?}");
    }
    let mutations = mutations(&schema, true);
    for mutation in &mutations {
        for _ in 0..10 {
            let input = sample(&mut runner, &mutation.base);
            let input = mutation.apply(input, &mut runner);
            assert!(!validator.is_valid(&input), "SIGNET_TEST_SEED={seed}: {}: {input}", mutation.what);
        }
    }
    println!("400 valid inputs, {} kinds of invalid ones", mutations.len());
}

fn runner() -> (u64, TestRunner) {
    let seed = seed().unwrap_or(1);
    (seed, support::runner(seed, Config::default()))
}

fn sample<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// The validator for a schema of the document.
fn validator_of(schema: &Value) -> jsonschema::Validator {
    let mut schema = schema.clone();
    schema["components"] = DOCUMENT["components"].clone();
    jsonschema::draft202012::options()
        // The crate's own check refuses non-ASCII letters after the `@`.
        .with_format("email", is_address)
        .with_format("idn-email", is_address)
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let has_parts = |text: &str| text.split('.').all(|part| !part.is_empty());
    let is_plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    is_plain && has_parts(local) && has_parts(domain) && domain.contains('.') && !domain.contains('@')
}

// Reading a schema.

/// Keywords that restrict no values.
const ANNOTATIONS: &[&str] =
    &["title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly"];

/// Keywords that the generator supports.
const KEYWORDS: &[&str] = &[
    "type",
    "enum",
    "properties",
    "required",
    "additionalProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
];

/// The schemas of `oneOf` or `anyOf`, or the schema itself: a value must satisfy one of them.
fn alternatives(schema: &Value) -> Vec<&Value> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = DOCUMENT.pointer(reference.trim_start_matches('#'));
        return alternatives(target.unwrap_or_else(|| panic!("{reference} is not in the document")));
    }
    let several = ["oneOf", "anyOf"].into_iter().find_map(|keyword| schema[keyword].as_array());
    for keyword in schema.as_object().unwrap().keys() {
        let known: &[&str] = if several.is_some() { &["oneOf", "anyOf"] } else { KEYWORDS };
        let is_known = known.contains(&keyword.as_str()) || ANNOTATIONS.contains(&keyword.as_str());
        assert!(is_known, "the generator does not support {keyword:?} in {schema}");
    }
    if let Some(several) = several { several.iter().flat_map(alternatives).collect() } else { vec![schema] }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => panic!("the generator does not support a schema without a type: {schema}"),
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|required| required.iter().any(|required| required == name))
}

/// The minimum and maximum length in characters.
fn lengths(schema: &Value) -> (usize, Option<usize>) {
    let length = |keyword: &str| schema[keyword].as_u64().map(|length| usize::try_from(length).unwrap());
    let (least, greatest) = (length("minLength").unwrap_or(0), length("maxLength"));
    let Some(pattern) = schema["pattern"].as_str() else { return (least, greatest) };
    // A pattern may limit the length, too.
    let validator = pattern_validator(pattern);
    let letter: String = pieces(schema)[0].chars().take(1).collect();
    let fits = |length: &usize| validator.is_valid(&json!(letter.repeat(*length)));
    let most = greatest.unwrap_or(least + 300);
    let longest = (least..=most).rev().find(&fits);
    let shortest = (least..=most).find(&fits).unwrap_or(least);
    (shortest, if longest == Some(most) { greatest } else { longest })
}

fn pattern_validator(pattern: &str) -> jsonschema::Validator {
    jsonschema::draft202012::new(&json!({ "pattern": pattern })).unwrap()
}

// Valid values.

fn valid_inputs(schema: &Value) -> BoxedStrategy<Members> {
    Union::new(alternatives(schema).into_iter().map(objects)).boxed()
}

fn values(schema: &Value) -> BoxedStrategy<Value> {
    let alternatives = alternatives(schema).into_iter();
    Union::new(alternatives.flat_map(|schema| types(schema).into_iter().map(move |kind| typed(schema, kind)))).boxed()
}

fn typed(schema: &Value, kind: &str) -> BoxedStrategy<Value> {
    if let Some(values) = schema["enum"].as_array() {
        return select(values.clone()).boxed();
    }
    match kind {
        "null" => Just(Value::Null).boxed(),
        "boolean" => any::<bool>().prop_map(Value::Bool).boxed(),
        "integer" => {
            let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
            let greatest = schema["maximum"].as_i64().unwrap_or(i64::MAX);
            prop_oneof![Just(least), Just(greatest), least..=greatest].prop_map(|number| json!(number)).boxed()
        }
        "string" => strings(schema).prop_map(Value::String).boxed(),
        "object" => objects(schema).prop_map(Value::Object).boxed(),
        other => panic!("the generator does not support the type {other:?}: {schema}"),
    }
}

/// Objects with every required member, and with some of the others.
fn objects(schema: &Value) -> BoxedStrategy<Members> {
    assert!(types(schema).contains(&"object"), "{schema}");
    let members: Vec<BoxedStrategy<Option<(String, Value)>>> = properties(schema)
        .map(|(name, property)| {
            let is_required = is_required(schema, name);
            let name = name.clone();
            let member = values(property).prop_map(move |value| Some((name.clone(), value)));
            if is_required { member.boxed() } else { prop_oneof![1 => Just(None), 2 => member].boxed() }
        })
        .collect();
    members.prop_map(|members| members.into_iter().flatten().collect::<Members>()).boxed()
}

fn strings(schema: &Value) -> BoxedStrategy<String> {
    let (least, greatest) = lengths(schema);
    match schema["format"].as_str() {
        None | Some("password") => {
            let greatest = greatest.unwrap_or(least + 200);
            let lengths = prop_oneof![Just(least), Just(greatest), least..=greatest.min(least + 24)];
            texts(schema, lengths.boxed())
        }
        Some("email" | "idn-email") => {
            prop_oneof![3 => addresses(), 1 => addresses_of(greatest.unwrap_or(LONGEST_ADDRESS))].boxed()
        }
        Some("uuid") => any::<u128>().prop_map(|bits| uuid::Uuid::from_u128(bits).to_string()).boxed(),
        Some(other) => panic!("the generator does not support the format {other:?}: {schema}"),
    }
}

/// Letters, marks and digits of many scripts, separated by spaces. NFKC changes none of them, they do not compose with
/// each other, and case folding makes none of them longer.
const LETTERS: &str = "a Q z 0 7 \u{e9} \u{1ec5} x\u{302} λ Ж \u{430}\u{301} Ա ქ \u{5e9} \u{5e9}\u{5c1} \u{639} \
                       \u{645}\u{64f} \u{663} \u{915}\u{94d}\u{937} \u{915}\u{93c} \u{96a} \u{995}\u{9cb} \
                       \u{b95}\u{bca} \u{e17}\u{e35}\u{e48} \u{e55} \u{1780}\u{17b6} \u{f40}\u{f72} አ 한 か ガ 山 \
                       \u{20bb7} \u{10400}";

/// Characters that usernames may have besides letters, marks and digits.
const SIGNS: &str = ". + - _";

/// Characters that addresses may have before the `@` besides letters, marks and digits.
const ADDRESS_SIGNS: &str = "! # $ % & ' * + / = ? ^ _ ` { | } ~ -";

/// Punctuation, emoji, separators, formatting and control characters, private use and a noncharacter.
const OTHERS: &str = "' \" \\ / @ < % 🦀 👍\u{1f3fd} 👩\u{200d}\u{1f680} \u{a0} \u{2028} \u{200b} \u{202e} \u{feff} \
                      \0 \n \u{1b} \u{85} \u{e000} \u{ffff}";

/// The pieces of generated texts: all of them, or those that the pattern of the schema allows.
fn pieces(schema: &Value) -> Vec<&'static str> {
    let all: Vec<&str> = [LETTERS, SIGNS, OTHERS].into_iter().flat_map(|some| some.split(' ')).chain([" "]).collect();
    let Some(pattern) = schema["pattern"].as_str() else { return all };
    let validator = pattern_validator(pattern);
    // If a pattern requires a length, a single piece may be too short.
    let is_admitted = |piece: &&str| (1..=40).any(|times| validator.is_valid(&json!(piece.repeat(times))));
    let admitted: Vec<&str> = all.into_iter().filter(is_admitted).collect();
    assert!(!admitted.is_empty(), "the generator has no text for the pattern {pattern}");
    admitted
}

/// Texts of these lengths in characters.
fn texts(schema: &Value, lengths: BoxedStrategy<usize>) -> BoxedStrategy<String> {
    let pieces = pieces(schema);
    lengths.prop_flat_map(move |length| texts_of(pieces.clone(), length)).boxed()
}

/// Texts of this length in characters. Each piece has at least one character.
fn texts_of(pieces: Vec<&'static str>, length: usize) -> BoxedStrategy<String> {
    let pieces = prop::collection::vec(select(pieces), length);
    pieces.prop_map(move |pieces| pieces.concat().chars().take(length).collect::<String>()).boxed()
}

/// The longest address in characters (RFC 5321 §4.5.3.1.3).
const LONGEST_ADDRESS: usize = 254;

/// Labels of domain names that IDNA (RFC 5891) allows, in any combination.
const INTERNATIONAL_LABELS: &[&str] =
    &["bücher", "דוגמה", "παράδειγμα", "مثال", "пример", "उदाहरण", "உதாரணம்", "ตัวอย่าง", "실례", "例え", "例子"];

fn addresses() -> BoxedStrategy<String> {
    let pieces: Vec<&str> = LETTERS.split(' ').chain(ADDRESS_SIGNS.split(' ')).collect();
    let part = prop::collection::vec(select(pieces), 1..=8);
    let local = prop::collection::vec(part.prop_map(|pieces| pieces.concat()), 1..=3);
    let label = prop_oneof![
        2 => "[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,8})?",
        1 => select(INTERNATIONAL_LABELS).prop_map(str::to_owned),
    ];
    let domain = prop::collection::vec(label, 2..=3);
    (local, domain).prop_map(|(local, domain)| format!("{}@{}", local.join("."), domain.join("."))).boxed()
}

/// Addresses of this length in characters.
fn addresses_of(length: usize) -> BoxedStrategy<String> {
    const DOMAIN: &str = "@example.com";
    texts_of(LETTERS.split(' ').collect(), length - DOMAIN.len()).prop_map(|local| local + DOMAIN).boxed()
}

// Invalid values.

/// A change that makes a valid input invalid.
struct Mutation {
    what: String,
    /// The valid inputs to which it applies.
    base: BoxedStrategy<Members>,
    change: Change,
}

enum Change {
    Without(String),
    With(String, BoxedStrategy<Value>),
    /// The input is this value instead of an object.
    Whole(Value),
}

impl Mutation {
    fn apply(&self, mut input: Members, runner: &mut TestRunner) -> Value {
        match &self.change {
            Change::Without(name) => {
                input.remove(name);
            }
            Change::With(name, values) => {
                input.insert(name.clone(), sample(runner, values));
            }
            Change::Whole(value) => return value.clone(),
        }
        Value::Object(input)
    }
}

fn mutations(schema: &Value, is_json: bool) -> Vec<Mutation> {
    let alternatives = alternatives(schema);
    let mut mutations = Vec::new();
    for schema in &alternatives {
        let base = objects(schema);
        let mut push = |what: String, change| mutations.push(Mutation { what, base: base.clone(), change });
        for (name, property) in properties(schema) {
            if is_required(schema, name) {
                push(format!("{name} is missing"), Change::Without(name.clone()));
            }
            for (what, values) in wrong_values(property, is_json) {
                push(format!("{name} {what}"), Change::With(name.clone(), values));
            }
        }
        // Members of another alternative are added, too: a client must not send both.
        let names = alternatives.iter().flat_map(|other| properties(other)).map(|(name, _)| name.as_str());
        for name in names.filter(|name| schema["properties"][*name].is_null()).chain(["unknown"]) {
            push(format!("{name} is added"), Change::With(name.to_owned(), Just(json!("x")).boxed()));
        }
        if is_json {
            for whole in [json!(null), json!(true), json!(7), json!("x"), json!([]), json!([{}])] {
                push(format!("the body is {whole}"), Change::Whole(whole));
            }
        }
    }
    mutations
}

type WrongValues = Vec<(String, BoxedStrategy<Value>)>;

/// Invalid values of a member, and what is wrong with them.
fn wrong_values(property: &Value, is_json: bool) -> WrongValues {
    let alternatives = alternatives(property);
    let kinds: Vec<&str> = alternatives.iter().flat_map(|schema| types(schema)).collect();
    let wrong_types = wrong_types(&kinds, is_json).into_iter();
    let mut wrong: WrongValues = wrong_types.map(|value| (format!("is {value}"), Just(value).boxed())).collect();
    let mut bounded = alternatives.into_iter().filter(|schema| types(schema) != ["null"]);
    // A value outside the bounds of one alternative may satisfy another.
    if let (Some(schema), None) = (bounded.next(), bounded.next()) {
        wrong.extend(out_of_bounds(schema));
    }
    wrong
}

fn wrong_types(kinds: &[&str], is_json: bool) -> Vec<Value> {
    if is_json {
        let samples = [
            ("null", json!(null)),
            ("boolean", json!(true)),
            ("integer", json!(7)),
            ("number", json!(1.5)),
            ("string", json!("7")),
            ("array", json!(["x"])),
            ("object", json!({ "x": "y" })),
        ];
        samples.into_iter().filter(|(kind, _)| !kinds.contains(kind)).map(|(_, value)| value).collect()
    } else if kinds == ["integer"] {
        ["", "x", "1.5", "1e2", "true"].map(Value::from).to_vec()
    } else {
        // Every value in a query is text.
        Vec::new()
    }
}

const INVALID_ADDRESSES: &[&str] = &[
    "",
    "ann",
    "ann@",
    "@example.com",
    "ann@example",
    "ann@@example.com",
    "ann@example..com",
    ".ann@example.com",
    "ann bee@example.com",
    "ann@example.com\n",
    "ann\0@example.com",
];

fn out_of_bounds(schema: &Value) -> WrongValues {
    let mut wrong = WrongValues::new();
    if schema["enum"].is_array() {
        wrong.push(("is not in the enum".to_owned(), Just(json!("no such value")).boxed()));
        return wrong;
    }
    for (keyword, step) in [("minimum", -1), ("maximum", 1)] {
        if let Some(bound) = schema[keyword].as_i64() {
            wrong.push((format!("is beyond its {keyword}"), Just(json!(bound + step)).boxed()));
        }
    }
    let mut push =
        |what: &str, texts: BoxedStrategy<String>| wrong.push((what.to_owned(), texts.prop_map(Value::String).boxed()));
    let is_address = matches!(schema["format"].as_str(), Some("email" | "idn-email"));
    let (least, greatest) = lengths(schema);
    if least > 0 {
        push("is too short", texts_of(pieces(schema), least - 1));
    }
    if let Some(greatest) = greatest {
        let too_long = if is_address { addresses_of(greatest + 1) } else { texts_of(pieces(schema), greatest + 1) };
        push("is too long", too_long);
    }
    if schema["pattern"].is_string() {
        let texts = texts_of(pieces(schema), least.max(1));
        push(
            "begins with NUL",
            texts.prop_map(|text| "\0".chars().chain(text.chars().skip(1)).collect::<String>()).boxed(),
        );
    }
    if is_address {
        push("is not an address", select(INVALID_ADDRESSES).prop_map(str::to_owned).boxed());
    }
    if schema["format"] == "uuid" {
        push("is not a UUID", Just("5f0c3f8e".to_owned()).boxed());
    }
    wrong
}
