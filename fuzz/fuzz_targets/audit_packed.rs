//! A packed segment that is accepted has the length that it says, however it was made; and what is
//! packed comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_audit::packed::{Packed, pack};
use moat_audit::store::{Readable as _, read_start};

fuzz_target!(|data: &[u8]| {
    if let Ok(packed) = Packed::open(data.to_vec()) {
        let size = packed.size().unwrap();
        let mut buffer = [0; 64];
        for offset in [0, size / 2, size.saturating_sub(1), size, u64::MAX] {
            let _: std::io::Result<usize> = packed.read_at(&mut buffer, offset);
        }
    }
    let mut out = Vec::new();
    pack(&data.to_vec(), |part| {
        out.extend_from_slice(part);
        Ok(())
    })
    .unwrap();
    let packed = Packed::open(out).unwrap();
    assert_eq!(read_start(&packed, data.len() + 1).unwrap(), data);
});
