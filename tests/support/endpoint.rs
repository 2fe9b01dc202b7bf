//! A running service as its clients reach it.

use super::{
    Actor, PASSWORD, Reply,
    actor::{TokenNames, basic, bearer, http_client},
    email,
    token::take_apart,
};
use serde_json::json;
use std::net::SocketAddr;

/// The address of a service, and requests that many tests send to it.
pub struct Endpoint {
    pub address: SocketAddr,
    client: reqwest::Client,
    token_names: TokenNames,
}

impl Endpoint {
    pub fn new(address: SocketAddr, token_names: TokenNames) -> Self {
        Self { address, client: http_client().build().unwrap(), token_names }
    }

    /// An endpoint whose clients open a connection for each request.
    pub fn without_keep_alive(address: SocketAddr) -> Self {
        let client = http_client().pool_max_idle_per_host(0).build().unwrap();
        Self { address, client, token_names: TokenNames::Default }
    }

    /// A client without a token.
    pub fn anon(&self) -> Actor {
        Actor::new(self.client.clone(), self.address, None, self.token_names)
    }

    /// A client with this token.
    pub fn bearer(&self, token: &str) -> Actor {
        Actor::new(self.client.clone(), self.address, Some(bearer(token)), self.token_names)
    }

    /// A client with these credentials, as HTTP Basic.
    pub fn basic(&self, id: &str, secret: &str) -> Actor {
        Actor::new(self.client.clone(), self.address, Some(basic(id, secret)), self.token_names)
    }

    pub async fn create(&self, email: &str) -> Reply {
        self.anon().post("/auth/create", &json!({ "email": email, "password": PASSWORD })).await
    }

    /// Signs a new user up and in.
    pub async fn user(&self) -> SignedIn {
        self.user_with_email(&email()).await
    }

    pub async fn user_with_email(&self, email: &str) -> SignedIn {
        let created = self.create(email).await;
        assert_eq!(created.status, 201, "{created:?}");
        let id = created.json["id"].as_i64().unwrap();
        SignedIn { id, ..self.sign_in(email).await }
    }

    pub async fn sign_in(&self, email: &str) -> SignedIn {
        let reply = self.try_sign_in(email, PASSWORD).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let (access, refresh) = (reply.string("access_token").to_owned(), reply.string("refresh_token").to_owned());
        SignedIn { id: 0, email: email.to_owned(), actor: self.bearer(&access), access, refresh }
    }

    pub async fn try_sign_in(&self, email: &str, password: &str) -> Reply {
        self.anon().post("/auth/signin", &json!({ "email": email, "password": password })).await
    }

    pub async fn refresh(&self, refresh_token: &str) -> Reply {
        self.anon().post("/auth/refresh-access", &json!({ "refresh_token": refresh_token })).await
    }

    pub async fn sign_out(&self, refresh_token: &str) -> Reply {
        self.anon().post("/auth/signout", &json!({ "refresh_token": refresh_token })).await
    }

    /// The status of `GET /auth/verify`.
    pub async fn verify(&self, access_token: &str) -> u16 {
        self.bearer(access_token).get("/auth/verify").await.status
    }

    /// The status of `GET /readyz`.
    pub async fn readiness(&self) -> u16 {
        self.anon().get("/readyz").await.status
    }

    /// Whether a session is live. Asserts that its refresh token and its access token agree.
    pub async fn is_alive(&self, session: &SignedIn) -> bool {
        let refreshes = self.refresh(&session.refresh).await.status == 200;
        assert_eq!(session.actor.get("/auth/users/me").await.status == 200, refreshes, "both tokens end together");
        refreshes
    }
}

/// A user, the tokens of one session, and a client that uses them.
pub struct SignedIn {
    /// 0 unless the sign-up returned it.
    pub id: i64,
    pub email: String,
    pub access: String,
    pub refresh: String,
    pub actor: Actor,
}

impl SignedIn {
    /// The id of the session.
    pub fn sid(&self) -> String {
        take_apart(&self.access).claims["sid"].as_str().unwrap().to_owned()
    }
}
