//! The capabilities of a container: docker's default set, changed by `--cap-add`, `--cap-drop` and `--privileged`.

use super::capability::{Capability, CapabilityFlag};
use super::request::ContainerRequest;

/// The default set, in docker's order.
const DEFAULT: [Capability; 14] = [
    Capability(0),
    Capability(1),
    Capability(4),
    Capability(3),
    Capability(27),
    Capability(13),
    Capability(6),
    Capability(7),
    Capability(31),
    Capability(8),
    Capability(10),
    Capability(18),
    Capability(5),
    Capability(29),
];

/// The capabilities for the request. `granted` is the mask of capabilities that the runtime can grant, if it is
/// limited: capabilities outside of it are skipped with a warning, and `ALL` means all of it.
pub(crate) fn resolve(request: &ContainerRequest, granted: Option<u64>, warnings: &mut Vec<String>) -> Vec<Capability> {
    let may = |capability: &Capability| granted.is_none_or(|mask| capability.is_in(mask));
    if request.privileged {
        return Capability::all().filter(may).collect();
    }
    let named = |list: &[CapabilityFlag], wanted| list.contains(&CapabilityFlag::One(wanted));
    let (add, drop) = (&request.cap_add, &request.cap_drop);
    let kept = |capability: &Capability| !named(drop, *capability);
    let mut set: Vec<Capability> = if add.contains(&CapabilityFlag::All) {
        return Capability::all().filter(kept).filter(may).collect();
    } else if drop.contains(&CapabilityFlag::All) {
        Vec::new()
    } else {
        DEFAULT.into_iter().filter(kept).collect()
    };
    // As in docker, `--cap-add` overrides `--cap-drop`.
    set.extend(Capability::all().filter(|capability| named(add, *capability) && !DEFAULT.contains(capability)));
    let missing = DEFAULT.into_iter().filter(|capability| named(add, *capability) && !set.contains(capability));
    set.extend(missing.collect::<Vec<_>>());
    set.retain(|capability| {
        if !may(capability) {
            warnings.push(format!("{} cannot be granted here; the container does not get it", capability.name()));
        }
        may(capability)
    });
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str], granted: Option<u64>) -> (Vec<String>, Vec<String>) {
        let read = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let request = ContainerRequest { cap_add: read(add), cap_drop: read(drop), ..ContainerRequest::default() };
        let mut warnings = Vec::new();
        let set = resolve(&request, granted, &mut warnings);
        (set.into_iter().map(Capability::name).collect(), warnings)
    }

    #[test]
    fn dockers_set_and_changes_to_it() {
        let (default, _) = set(&[], &[], None);
        let expected = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE \
                        SYS_CHROOT KILL AUDIT_WRITE";
        assert_eq!(default, expected.split(' ').map(|name| format!("CAP_{name}")).collect::<Vec<_>>());
        for (add, drop, len, first, last) in [
            (&[][..], &["mknod", "CAP_NET_RAW"][..], 12, "CAP_CHOWN", "CAP_AUDIT_WRITE"),
            (&["cap_sys_admin", "SYS_PTRACE", "KILL"], &[], 16, "CAP_CHOWN", "CAP_SYS_ADMIN"),
            (&["SYS_NICE", "CHOWN"], &["all"], 2, "CAP_SYS_NICE", "CAP_CHOWN"),
            (&["ALL"], &[], 41, "CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"),
            (&["ALL"], &["CHOWN"], 40, "CAP_DAC_OVERRIDE", "CAP_CHECKPOINT_RESTORE"),
            (&["KILL"], &["KILL"], 14, "CAP_CHOWN", "CAP_KILL"),
        ] {
            let (set, warnings) = set(add, drop, None);
            assert_eq!(
                (set.len(), set[0].as_str(), set.last().unwrap().as_str()),
                (len, first, last),
                "{add:?}{drop:?}"
            );
            assert!(warnings.is_empty());
        }
        assert_eq!(set(&[], &["ALL"], None).0, [] as [&str; 0]);
    }

    #[test]
    fn only_what_there_is_can_be_granted() {
        let without_resource = !(1 << 24);
        assert_eq!(set(&["ALL"], &[], Some(without_resource)).0.len(), 40);
        let (set, warnings) = set(&["SYS_RESOURCE"], &[], Some(without_resource));
        assert_eq!((set.len(), warnings.len()), (14, 1));
        assert!(warnings[0].starts_with("CAP_SYS_RESOURCE cannot be granted"));
    }
}
