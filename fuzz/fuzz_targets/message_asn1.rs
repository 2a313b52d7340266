//! Any bytes are one value of ASN.1, or are refused; what is good DER is good BER.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_message::asn1::{Cursor, Rules, check};
use moat_message::limit::ASN1_DEPTH_MAX;

fuzz_target!(|data: &[u8]| {
    let der = check(data, Rules::Der);
    assert!(der.is_err() || check(data, Rules::Ber).is_ok());
    for rules in [Rules::Der, Rules::Ber] {
        let mut before = None;
        for item in Cursor::new(data, rules).map_while(Result::ok) {
            // Every value begins behind the one before it.
            assert!(before < Some(item.offset) && item.depth <= ASN1_DEPTH_MAX);
            before = Some(item.offset);
            if let Some(contents) = item.contents {
                assert_eq!(&data[item.start..item.start + contents.len()], contents);
            }
            let _ = (item.integer(), item.text(), item.oid());
        }
    }
});
