//! Which system calls roles make, for the test that none is on a role's list without need. No role
//! attaches it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aya::maps::{Array, HashMap, MapData};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf};

use crate::object;

/// Numbers of system calls lie below; `CALLS_MAX` in the program.
const CALLS_MAX: u32 = 512;

/// Why there is none.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The program in force.
pub struct Calls {
    _bpf: Ebpf,
    counts: Array<MapData, u64>,
}

impl Calls {
    /// Watches the processes of these cgroups that are not root.
    ///
    /// # Errors
    /// The kernel does not take the program, or there is no such cgroup.
    pub fn watch(cgroups: &[PathBuf]) -> Result<Calls, Error> {
        let mut bpf = Ebpf::load(object::CALLS)?;
        let program: &mut BtfTracePoint =
            bpf.program_mut("calls_enter").ok_or("no program calls_enter")?.try_into()?;
        program.load("sys_enter", &Btf::from_sys_fs()?)?;
        program.attach()?;
        let roles = bpf.map_mut("calls_roles").ok_or("no map calls_roles")?;
        let mut roles: HashMap<_, u64, u32> = roles.try_into()?;
        for (number, path) in (0..).zip(cgroups) {
            roles.insert(fs::metadata(path)?.ino(), number, 0)?;
        }
        let counts = bpf.take_map("calls_counts").ok_or("no map calls_counts")?.try_into()?;
        Ok(Calls { _bpf: bpf, counts })
    }

    /// Numbers of the calls that the processes of one cgroup have made.
    ///
    /// # Errors
    /// The kernel does not give them.
    pub fn made(&self, cgroup: u32) -> Result<Vec<i64>, Error> {
        let mut made = Vec::new();
        for number in 0..CALLS_MAX {
            if self.counts.get(&(cgroup * CALLS_MAX + number), 0)? > 0 {
                made.push(i64::from(number));
            }
        }
        Ok(made)
    }
}
