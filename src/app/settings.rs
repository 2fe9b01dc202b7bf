//! Loads the settings, and turns them into the options of the modules below.

use crate::{
    config::{self, Faults, Problem, Settings, Sources},
    domain::Algorithm,
    http,
    keys::{SigningKey, is_monotonous},
    mail::Mailer,
    os::cgroup::cpu_quota,
    passwords::{Blocklist, Hashing, Passwords},
    telemetry::HashWaits,
    tokens::{Issuer, is_registered},
};
use secrecy::SecretString;
use std::io;

/// Loads the settings.
///
/// # Errors
/// Every fault at once, including those of keys, the blocklist and claim names.
pub fn load_settings(sources: &Sources) -> Result<Settings, Faults> {
    Settings::load(sources, problems)
}

/// The problems of keys, the blocklist and claim names.
fn problems(settings: &Settings) -> Vec<Problem> {
    let jwt = &settings.jwt;
    let mut problems = Vec::new();
    for (name, key, algorithm) in keys(settings) {
        match SigningKey::parse(key, algorithm) {
            Err(fault) => problems.push(Problem(name, fault.to_string())),
            Ok(key) if name == SIGNING_KEY && algorithm.secret_length().is_none() => {
                let fault = jwt.verifying_key.as_ref().and_then(|public| key.check_public_half(public).err());
                problems.extend(fault.map(|fault| Problem(&["jwt.verifying_key"], fault.to_string())));
            }
            Ok(_) => {}
        }
    }
    if let Some(Err(error)) = settings.passwords.blocklist_file.as_deref().map(Blocklist::read) {
        problems.push(Problem(&["passwords.blocklist_file"], format!("cannot be read: {error}")));
    }
    problems.extend(Mailer::open(&settings.mail).err());
    let claims = [(&["jwt.jti_claim"], &jwt.jti_claim, "jti"), (&["jwt.user_id_claim"], &jwt.user_id_claim, "sub")];
    for (name, claim, default) in claims {
        if **claim != *default && is_registered(claim) {
            problems.push(Problem(name, "must not be the name of a claim with another meaning".to_owned()));
        }
    }
    problems
}

const SIGNING_KEY: &[&str; 1] = &["jwt.signing_key"];

/// The keys that are set, and the algorithm of each.
fn keys(settings: &Settings) -> impl Iterator<Item = (&'static [&'static str; 1], &SecretString, Algorithm)> {
    let jwt = &settings.jwt;
    let keys: [(_, _, Algorithm); 3] = [
        (SIGNING_KEY, &jwt.signing_key, jwt.algorithm),
        (&["jwt.refresh_key"], &jwt.refresh_key, Algorithm::Hs256),
        (&["jwt.refresh_key_previous"], &jwt.refresh_key_previous, Algorithm::Hs256),
    ];
    keys.into_iter().filter_map(|(name, key, algorithm)| Some((name, key.as_ref()?, algorithm)))
}

/// Settings that are allowed but deserve a warning at the start.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let guessable = keys(settings)
        .filter(|(_, key, _)| is_monotonous(key))
        .map(|([name], ..)| format!("{name} does not look random; `openssl rand -base64 48` generates a random one"));
    guessable.chain(settings.warnings()).collect()
}

/// How tokens are issued.
pub(super) fn issuer(settings: &Settings) -> Issuer {
    let jwt = &settings.jwt;
    Issuer {
        iss: settings.issuer().to_owned(),
        aud: jwt.audience.clone(),
        audiences: jwt.audiences.clone(),
        names: http::token_names(settings),
        access_lifetime: jwt.access_token_lifetime,
        leeway: jwt.leeway,
        jti_claim: jwt.jti_claim.to_string(),
        user_id_claim: jwt.user_id_claim.to_string(),
        user_id_field: jwt.user_id_field,
    }
}

/// What sends mails, if the settings say so. They were checked when they were loaded.
pub fn mailer(settings: &Settings) -> Option<Mailer> {
    Mailer::open(&settings.mail).unwrap_or_else(|Problem(_, fault)| {
        tracing::error!("no mail is sent: {fault}");
        None
    })
}

/// Starts the hash threads.
///
/// # Errors
/// When the blocklist cannot be read, or as [`Passwords::start`].
pub fn start_passwords(settings: &config::Passwords, waits: HashWaits) -> io::Result<Passwords> {
    let blocklist = settings.blocklist_file.as_deref().map_or_else(|| Ok(Blocklist::default()), Blocklist::read)?;
    let threads = settings.hash_threads();
    let hashing = Hashing {
        memory_kib: settings.memory_kib,
        iterations: settings.iterations,
        parallelism: settings.parallelism,
        max_memory_kib: settings.max_memory_kib,
        threads,
        queue: settings.queue(),
        queue_timeout: settings.queue_timeout,
        cooldown: cooldown(threads, cpu_quota()),
    };
    Passwords::start(hashing, blocklist, waits)
}

/// How long a hash thread sleeps after each hash, as a multiple of the CPU time of the hash. All hash threads together
/// leave a tenth of a container's CPU quota to the other threads: Linux throttles a container that has used up its
/// quota until the next period, whatever the priority of its threads.
fn cooldown(threads: usize, cpu_quota: Option<f64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most 1024 threads")]
    let threads = threads as f64;
    cpu_quota.map_or(0.0, |quota| (threads / (0.9 * quota) - 1.0).max(0.0))
}
