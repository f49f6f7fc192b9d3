//! The kinds there are, by discovery, and how to reach them.
//!
//! Owns: finding a kind's resource from an owner reference. Must not know: the graph. A newcomer's
//! trap: a reference may name a version that is no longer served; any served one of the group will do.

use kube::Client;
use kube::core::discovery::verbs;
use kube::discovery::{ApiResource, Discovery, Scope};

/// One kind.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) resource: ApiResource,
    pub(crate) is_namespaced: bool,
    /// Whether it can be listed, watched and deleted, as the collector needs.
    pub(crate) is_collectable: bool,
}

/// All kinds served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds(Vec<Kind>);

// === impl Kinds ===

impl Kinds {
    /// Asks the API what it serves.
    pub(crate) async fn discover(client: &Client) -> kube::Result<Self> {
        let discovery = Discovery::new(client.clone()).run().await?;
        let all = discovery.groups().flat_map(|group| group.recommended_resources());
        let kind = |(resource, capabilities): (ApiResource, kube::discovery::ApiCapabilities)| {
            let needed = [verbs::LIST, verbs::WATCH, verbs::DELETE];
            // Events come in floods, own nothing and are owned by nothing.
            let is_event = resource.plural == "events";
            Kind {
                is_namespaced: capabilities.scope == Scope::Namespaced,
                is_collectable: !is_event
                    && needed.iter().all(|verb| capabilities.supports_operation(verb)),
                resource,
            }
        };
        Ok(Self(all.map(kind).collect()))
    }

    /// The kinds to watch.
    pub(crate) fn collectable(&self) -> impl Iterator<Item = &Kind> {
        self.0.iter().filter(|kind| kind.is_collectable)
    }

    /// The kind a reference names.
    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let same = |one: &&Kind| one.resource.kind == kind && one.resource.group == group;
        let exact = self.0.iter().filter(same).find(|one| one.resource.api_version == api_version);
        exact.or_else(|| self.0.iter().find(same))
    }
}
