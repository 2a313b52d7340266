//! Bounds of this crate, each with its unit.

/// Longest message, in bytes: offsets of the index are 16 bits wide.
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Greatest field number: three bitmaps of 64 bits.
pub const FIELD_MAX: u8 = 192;
/// Longest field, in the unit of its length: four digits (LLLLVAR).
pub const FIELD_COUNT_MAX: u16 = 9_999;
/// Longest spec of a dialect, in bytes of YAML.
pub const SPEC_BYTES_MAX: usize = 256 * 1024;
/// Longest name of a field or a spec, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Most tags with classes in one field of a spec.
pub const SPEC_TAGS_MAX: usize = 256;
/// Most parts of a composite field.
pub const SPEC_PARTS_MAX: usize = 256;
/// Most parts that one composite value may have.
pub const PARTS_MAX: usize = 256;
/// Shape plans that a worker keeps, least used out.
pub const PLANS_MAX: usize = 64;
/// Messages read by the general path for each plan that is made, so that shapes which never come
/// again cost what they cost without plans.
pub const MESSAGES_PER_PLAN: u32 = 32;
/// Longest TLV tag, in bytes (EMV Book 3, Annex B1 uses two; three are met in private tags).
pub const TLV_TAG_BYTES_MAX: usize = 3;
/// Most length bytes after the first one of a long form.
pub const TLV_LENGTH_BYTES_MAX: usize = 3;
/// Most templates within templates.
pub const TLV_DEPTH_MAX: usize = 4;
/// Most objects of one TLV field, those within templates included.
pub const TLV_OBJECTS_MAX: usize = 64;

/// Longest XML document, in bytes.
pub const XML_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most elements within elements.
pub const XML_DEPTH_MAX: usize = 64;
/// Most attributes of an element.
pub const XML_ATTRIBUTES_MAX: usize = 32;
/// Most namespaces in force at once.
pub const XML_NAMESPACES_MAX: usize = 32;
/// Longest text of an element, in bytes as it stands.
pub const XML_TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Most transactions in a document.
pub const XML_TRANSACTIONS_MAX: u32 = 10_000;
/// Longest header line before a document, in bytes.
pub const XML_WRAPPER_BYTES_MAX: usize = 512;
/// Most ASN.1 values within values.
pub const ASN1_DEPTH_MAX: usize = 32;
/// Longest ASN.1 data, in bytes.
pub const ASN1_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Greatest ASN.1 tag number.
pub const ASN1_TAG_MAX: u32 = 1 << 31;

const _: () = assert!(MESSAGE_BYTES_MAX <= u16::MAX as usize);
// The longest field, as hexadecimal text, still fits an offset.
const _: () = assert!((FIELD_COUNT_MAX as usize) * 2 < MESSAGE_BYTES_MAX);
