//! The rights of a caller, as types: a use case for staff takes a [`Staff`], which nothing but a check makes.

use super::{AuthError, Caller};
use crate::{domain::User, storage::Snapshot};
use std::ops::Deref;

/// A caller whose rights were checked.
pub trait Rights: Sized {
    /// `None` if the caller does not have the rights.
    fn check(caller: Caller) -> Option<Self>;
}

impl Rights for Caller {
    fn check(caller: Caller) -> Option<Self> {
        Some(caller)
    }
}

/// A caller with the rights of staff. Superusers have them, too.
#[derive(Debug, Clone)]
pub struct Staff(Caller);

impl Rights for Staff {
    fn check(caller: Caller) -> Option<Self> {
        caller.user.is_at_least_staff().then_some(Self(caller))
    }
}

impl Staff {
    /// Checks that a member of staff may change this user: staff may not touch staff or superusers, themselves
    /// included. The rights of the actor are read again, so that a request in flight cannot undo the demotion of its
    /// actor.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`].
    pub fn may_change(seen: &Snapshot) -> Result<&User, AuthError> {
        let actor = seen.actor.as_ref().filter(|actor| actor.is_at_least_staff()).ok_or(AuthError::Forbidden)?;
        if actor.is_superuser || !seen.account.user.is_at_least_staff() { Ok(actor) } else { Err(AuthError::Forbidden) }
    }
}

/// A caller with the rights of a superuser.
#[derive(Debug, Clone)]
pub struct Superuser(Caller);

impl Rights for Superuser {
    fn check(caller: Caller) -> Option<Self> {
        caller.user.is_superuser.then_some(Self(caller))
    }
}

impl Deref for Staff {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}

impl Deref for Superuser {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}
