//! What each role may still do once it runs.

use std::collections::HashSet;

use crate::support::{Gateway, Options, Pki, Service, is_root, proc_status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_has_given_up_its_rights() {
    let pki = Pki::new();
    let service = Service::start(&pki, &["http/1.1"]).await;
    let gateway = Gateway::start(&pki, service.address, Options::default()).await;
    let mut users = HashSet::new();
    for role in ["gateway", "auditor", "admin"] {
        let pid = gateway.role(role).unwrap();
        let uids = proc_status(pid, "Uid");
        let uids: Vec<&str> = uids.split_whitespace().collect();
        assert!(uids.iter().all(|uid| *uid == uids[0]), "{role}: {uids:?}");
        users.insert(uids[0].to_owned());
        assert_eq!(proc_status(pid, "NoNewPrivs"), "1", "{role}");
        assert_eq!(proc_status(pid, "Seccomp"), "2", "{role}");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let rights = u64::from_str_radix(&proc_status(pid, set), 16).unwrap();
            assert!(rights == 0 || !is_root(), "{role}: {set} {rights:x}");
        }
        if is_root() {
            assert_eq!(proc_status(pid, "Groups"), "", "{role} keeps groups");
        }
        // Every thread, not only the first.
        for thread in std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap() {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert!(status.contains("Seccomp:\t2\n"), "{role}: {status}");
            assert!(status.contains("NoNewPrivs:\t1\n"), "{role}: {status}");
        }
    }
    if is_root() {
        assert_eq!(users, ["64001", "64002", "64003"].map(str::to_owned).into());
    }
}
