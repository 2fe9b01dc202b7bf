//! Issues an access token to a client for itself (RFC 6749 §4.4).

use super::{Auth, AuthError, IssuedToken};
use crate::domain::{Client, Invalid, Scopes, Timestamp};

/// An access token of a client, and its scopes.
#[derive(Debug, Clone)]
pub struct ClientGrant {
    pub access: IssuedToken,
    pub scopes: Scopes,
}

impl Auth {
    /// Issues an access token to a client. Its audience is `resource` (RFC 8707), by default the client's first
    /// audience, else `jwt.audience`. Its scopes are those of `scope`, by default all scopes of the client.
    ///
    /// # Errors
    /// [`AuthError::InvalidMember`] for a scope or an audience that the client does not have.
    pub fn grant_to_client(
        &self,
        client: &Client,
        scope: Option<&str>,
        resource: Option<&str>,
        now: Timestamp,
    ) -> Result<ClientGrant, AuthError> {
        let unknown = || AuthError::InvalidMember("/scope", Invalid("must be scopes of this client"));
        let scopes: Scopes = match scope {
            Some(text) => text.parse().map_err(|_| unknown())?,
            None => client.scopes.clone(),
        };
        if !client.scopes.contains_all(&scopes) {
            return Err(unknown());
        }
        let default = client.audiences.first().map(String::as_str);
        let audience = self.audience(resource.or(default))?;
        let is_of_client = match audience {
            Some(audience) if !client.audiences.is_empty() => client.audiences.iter().any(|own| own == audience),
            audience => audience == self.audience(None)?,
        };
        if !is_of_client {
            return Err(AuthError::InvalidMember("/audience", Invalid("must be an audience of this client")));
        }
        let access = self.tokens.mint_client(client.id, &scopes, audience, now)?.into();
        Ok(ClientGrant { access, scopes })
    }
}
