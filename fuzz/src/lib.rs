//! What the targets share: cutting an input into pieces the way a socket would.

/// Takes the last byte of the input as the seed of all choices; the rest is what is fed.
///
/// The last byte, so that a seed in `corpus/` is the plain text of a message with a line feed
/// after it.
#[must_use]
pub fn split_seed(data: &[u8]) -> Option<(u8, &[u8])> {
    let (seed, input) = data.split_last()?;
    Some((*seed, input))
}

/// Cuts `input` into pieces of 1 to 16 bytes; equal seeds cut equally.
pub fn pieces(seed: u8, mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed) + 1;
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = usize::try_from(state >> 28).unwrap_or(0) + 1;
        let (piece, rest) = input.split_at(length.min(input.len()));
        input = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
