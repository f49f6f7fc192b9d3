//! What the tests of TLS share.

pub(crate) mod authority;
pub(crate) mod secure;
