//! User, groups and capabilities (credentials(7), capabilities(7)).

use std::io;

use ociforge_manifests::runtime::Capability;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::job::Failed;
use super::spec::{Capabilities, Process};

/// The capabilities of the step's program.
pub(super) struct Granted(Option<(CapabilitySets, CapabilitySet)>);

/// Changes to the spec's user. All capabilities stay until [`Granted::set`], for the remaining preparations. With
/// `without_groups` the kernel denies setgroups(2), and the user keeps its groups.
pub(super) fn assume(process: &Process, without_groups: bool) -> Result<Granted, Failed> {
    let before = capabilities(None).map_err(Failed::to("read the capabilities"))?;
    let granted = process.capabilities.as_ref().map(|wanted| granted(wanted, before.permitted));
    if let Some(wanted) = &process.capabilities {
        limit(set_of(&wanted.bounding))?;
    }
    set_keep_capabilities(true).map_err(Failed::to("keep capabilities"))?;
    change_user(process, without_groups)?;
    set_keep_capabilities(false).map_err(Failed::to("keep capabilities"))?;
    // The change to another user clears the effective set.
    set_capabilities(None, CapabilitySets { effective: before.permitted, ..before })
        .or_else(|error| if error == Errno::PERM { Ok(()) } else { Err(error) })
        .map_err(Failed::to("keep capabilities"))?;
    Ok(Granted(granted))
}

impl Granted {
    /// Drops the other capabilities.
    pub(super) fn set(&self) -> Result<(), Failed> {
        let Some((sets, ambient)) = self.0 else { return Ok(()) };
        set_capabilities(None, sets).map_err(Failed::to("give up capabilities"))?;
        for capability in ambient {
            configure_capability_in_ambient_set(capability, true).map_err(Failed::to("keep a capability"))?;
        }
        Ok(())
    }
}

fn change_user(process: &Process, without_groups: bool) -> Result<(), Failed> {
    let user = &process.user;
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&groups) {
        Err(Errno::PERM) if without_groups => {}
        other => other.map_err(Failed::to("set the supplementary groups"))?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let missing = |what: &str, id: u32, error: Errno| {
        let error = match error {
            Errno::INVAL => io::Error::other(format!("this user namespace has no {what} {id}")),
            error => error.into(),
        };
        Failed::to(format!("become {what} {id}"))(error)
    };
    set_thread_res_gid(gid, gid, gid).map_err(|error| missing("group", user.gid, error))?;
    set_thread_res_uid(uid, uid, uid).map_err(|error| missing("user", user.uid, error))
}

/// Drops all others from the bounding set.
fn limit(kept: CapabilitySet) -> Result<(), Failed> {
    for capability in (0..64).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !kept.contains(capability) => match remove_capability_from_bounding_set(capability) {
                // Without CAP_SETPCAP they stay; only set-user-ID programs could gain them.
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(Failed::to("give up capabilities")(error)),
            },
            Ok(_) => {}
            // The kernel has no further capabilities.
            Err(_) => break,
        }
    }
    clear_ambient_capability_set().or(Ok(()))
}

/// The requested capabilities, restricted to the present ones.
fn granted(wanted: &Capabilities, present: CapabilitySet) -> (CapabilitySets, CapabilitySet) {
    let permitted = set_of(&wanted.permitted) & present;
    let effective = set_of(&wanted.effective) & permitted;
    let inheritable = set_of(&wanted.inheritable) & present;
    let ambient = set_of(&wanted.ambient) & permitted & inheritable;
    (CapabilitySets { effective, permitted, inheritable }, ambient)
}

/// The capabilities with these names. Those of the spec are always known.
fn set_of(names: &[String]) -> CapabilitySet {
    let known = names.iter().filter_map(|name| Capability::number_of(name));
    known.fold(CapabilitySet::empty(), |set, number| set | CapabilitySet::from_bits_retain(1 << number))
}
