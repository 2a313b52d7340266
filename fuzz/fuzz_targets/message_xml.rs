//! Any bytes are a document of messages, or are refused. Rewritten without a change, the bytes are the
//! same; what is put in is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_message::iso20022::{rewrite, unwrap, walk};
use zeroize::Zeroizing;

fuzz_target!(|data: &[u8]| {
    let Ok((header, document)) = unwrap(data) else { return };
    assert_eq!([header, document].concat(), data);
    let mut texts = 0;
    let read = walk(document, |leaf| {
        let text = leaf.text()?;
        let _ =
            (leaf.check().is_ok(), leaf.canonical().is_some(), leaf.masked().len(), leaf.path());
        assert!(document.get(leaf.range()).is_some() && text.len() <= leaf.range().len());
        texts += u32::from(!leaf.range().is_empty());
        Ok(())
    });
    let mut out = Vec::new();
    let copied = rewrite(document, &mut out, |_| None);
    assert_eq!(read, copied);
    let Ok(summary) = read else { return assert!(out.is_empty()) };
    assert_eq!(out, document);
    out.clear();
    rewrite(document, &mut out, |_| Some(Zeroizing::new("a<&>b".to_owned()))).expect("it was read");
    let mut changed = 0;
    let again = walk(&out, |leaf| {
        changed += u32::from(leaf.text()? == "a<&>b");
        Ok(())
    });
    assert_eq!((again, changed), (Ok(summary), texts));
});
