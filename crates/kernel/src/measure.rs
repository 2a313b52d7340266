//! What the XDP program costs a packet, by the kernel's own test run.

use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions};

use crate::wire::{Settings, View};

/// Port of the listener in the packets.
const PORT: u16 = 8443;
/// Flags of TCP headers (RFC 9293 §3.1).
const SYN: u8 = 2;
const PUSH_ACK: u8 = 24;

/// Why nothing was measured.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Nanoseconds a packet, of each kind of packet, over so many runs of each.
///
/// # Errors
/// The kernel does not take the program, or does not run it.
pub fn packets(runs: u32) -> Result<Vec<(&'static str, f64)>, Error> {
    let admit = vec!["10.0.0.0/8".to_owned()];
    let settings = Settings { ports: vec![PORT], admit, drops_other: true, ..Settings::default() };
    let kinds = [
        ("XDP, packet of an open connection", packet(PORT, PUSH_ACK, &[0x17; 200])),
        ("XDP, packet to another port", packet(80, PUSH_ACK, &[0x17; 200])),
        ("XDP, SYN of an admitted network", packet(PORT, SYN, &[])),
    ];
    let mut figures = Vec::new();
    for (name, bytes) in kinds {
        // Each with a program and tables of its own.
        let mut view = View::load(&settings)?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&bytes);
        options.repeat = runs;
        // The kernel gives the mean of all runs.
        let duration: Duration = view.program()?.test_run(options)?.duration;
        figures.push((name, duration.as_secs_f64() * 1e9));
    }
    Ok(figures)
}

/// Ethernet, IPv4, TCP with the options that Linux sends.
fn packet(port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let options: &[u8] = match flags {
        SYN => &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
        _ => &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1],
    };
    let header = 20 + options.len();
    let total = u16::try_from(20 + header + payload.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0; 12];
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(40_000_u16.to_be_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    bytes.extend([u8::try_from(header / 4 * 16).unwrap_or(0), flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}
