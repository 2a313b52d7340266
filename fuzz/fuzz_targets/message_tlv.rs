//! Any bytes are objects of EMV, within each other and within the data, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_message::limit::{TLV_DEPTH_MAX, TLV_OBJECTS_MAX};
use moat_message::tlv::{Objects, Table, Tag, check};

fuzz_target!(|data: &[u8]| {
    let table = Table::new(data);
    assert_eq!(table.is_ok(), check(data).is_ok());
    let mut count = 0;
    for object in Objects::new(data).map_while(Result::ok) {
        count += 1;
        assert!(object.depth <= TLV_DEPTH_MAX && count <= TLV_OBJECTS_MAX);
        assert_eq!(&data[object.offset..object.offset + object.value.len()], object.value);
        assert_eq!(Tag::from_hex(&object.tag.to_string()), Some(object.tag));
        if let Ok(table) = &table {
            assert!(table.find(object.tag, data).is_some());
        }
    }
});
