//! Names of hosts and users, in a static program.

/// Looks names up in files and in DNS, whatever else `/etc/nsswitch.conf` lists.
///
/// For the rest the C library loads plug-ins of the system that the program runs on. In a static program of glibc that
/// ends in a crash where the system has another version of glibc than the build machine.
///
/// Call it before the first look-up.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub fn use_no_plugins() {
    use std::ffi::{c_char, c_int};

    #[expect(unsafe_code, reason = "a function of glibc that no library declares")]
    // SAFETY: the declaration is that of glibc's nss.h.
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    for (database, services) in [(c"hosts", c"files dns"), (c"passwd", c"files"), (c"services", c"files")] {
        #[expect(unsafe_code, reason = "it is a function of C")]
        // SAFETY: both are strings that end with a null byte; glibc copies what it keeps, under a lock of its own.
        let failed = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) } != 0;
        debug_assert!(!failed, "glibc knows {database:?}");
    }
}

/// In other programs the C library may load what the system is configured for.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn use_no_plugins() {}
