//! A link that loses packets, for `moat bench latency`. No role attaches it.

use aya::Ebpf;
use aya::maps::Array;
use aya::programs::{SchedClassifier, TcAttachType};

use crate::object;

/// Why there is none.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Loses packets for as long as it lives.
pub struct Loss {
    _bpf: Ebpf,
}

impl Loss {
    /// Of TCP to or from this port on this interface, so many of a thousand packets with data.
    ///
    /// # Errors
    /// The kernel does not take the program.
    pub fn begin(interface: &str, port: u16, of_thousand: u32) -> Result<Loss, Error> {
        let mut bpf = Ebpf::load(object::LOSS)?;
        let control = bpf.map_mut("loss_control").ok_or("no map loss_control")?;
        let mut control: Array<_, u32> = control.try_into()?;
        control.set(0, u32::from(port), 0)?;
        control.set(1, of_thousand, 0)?;
        let program: &mut SchedClassifier =
            bpf.program_mut("loss").ok_or("no program loss")?.try_into()?;
        program.load()?;
        program.attach(interface, TcAttachType::Egress)?;
        Ok(Loss { _bpf: bpf })
    }
}
