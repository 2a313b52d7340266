//! Which groups and suites are used, and in what order, where the operator says so.

use std::sync::Arc;

use moat_model::code::config::BAD_VALUE;
use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, NamedGroup};

use crate::stack::{group_name, suite_name};
use crate::{Error, Stack};

/// Groups and suites in the order of preference. Of a stack of which none is named all remain as they
/// are.
#[derive(Clone, Debug, Default)]
pub struct Order {
    groups: Vec<NamedGroup>,
    suites: Vec<CipherSuite>,
}

impl Order {
    /// By their names, such as `X25519MLKEM768` and `TLS13_AES_256_GCM_SHA384`.
    ///
    /// # Errors
    /// [`BAD_VALUE`]: there is none of that name, or one stands twice.
    pub fn new(groups: &[String], suites: &[String]) -> Result<Order, Error> {
        let providers = [Stack::International, Stack::National].map(Stack::provider);
        let all_groups = providers.iter().flat_map(|one| &one.kx_groups).map(|one| one.name());
        let all_suites = providers.iter().flat_map(|one| &one.cipher_suites).map(|one| one.suite());
        Ok(Order {
            groups: chosen("group", groups, &all_groups.collect::<Vec<_>>(), group_name)?,
            suites: chosen("suite", suites, &all_suites.collect::<Vec<_>>(), suite_name)?,
        })
    }

    /// A provider with what is left, in this order.
    pub(crate) fn apply(&self, provider: &CryptoProvider) -> Arc<CryptoProvider> {
        let (mut groups, mut suites) = (provider.kx_groups.clone(), provider.cipher_suites.clone());
        keep(&mut groups, &self.groups, |group| group.name());
        keep(&mut suites, &self.suites, |suite| suite.suite());
        Arc::new(CryptoProvider {
            kx_groups: groups,
            cipher_suites: suites,
            ..CryptoProvider::clone(provider)
        })
    }

    /// Whether an order of suites is set: then a listener's counts, and not the caller's.
    pub(crate) fn has_suites(&self) -> bool {
        !self.suites.is_empty()
    }
}

fn chosen<T: Copy + PartialEq>(
    what: &str,
    names: &[String],
    all: &[T],
    name_of: fn(T) -> &'static str,
) -> Result<Vec<T>, Error> {
    let mut found: Vec<T> = Vec::new();
    for name in names {
        let one = all.iter().copied().find(|one| name_of(*one) == name);
        let Some(one) = one.filter(|one| !found.contains(one)) else {
            let known: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
            let why =
                format!("`{name}` is no {what}, or stands twice; there are {}", known.join(", "));
            return Err(Error::new(&BAD_VALUE, why));
        };
        found.push(one);
    }
    Ok(found)
}

/// Keeps what is listed, in the order of the list; all of it if nothing of it is.
fn keep<T, N: PartialEq>(all: &mut Vec<T>, listed: &[N], name: impl Fn(&T) -> N) {
    let place = |one: &T| listed.iter().position(|listed| *listed == name(one));
    if all.iter().any(|one| place(one).is_some()) {
        all.retain(|one| place(one).is_some());
        all.sort_by_key(|one| place(one));
    }
}
