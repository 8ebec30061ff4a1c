//! Kernel files: the header of a bzImage and its compressed payload.
//!
//! Behind `p` comes only a payload, so that a fuzzer need not find the header again.

use plumb_image::fuzz;

/// A kernel that unpacks to more is refused: what the limit is does not matter to the code behind it.
const LIMIT_BYTES: u64 = 16 << 20;

pub(crate) fn run(data: &[u8]) {
    let image = match data.split_first() {
        Some((b'p', payload)) => bzimage(payload),
        _ => data.to_vec(),
    };
    let Ok(kernel) = fuzz::kernel(&image, LIMIT_BYTES) else { return };
    assert!(!kernel.release.is_empty() && !kernel.release.contains('/') && !kernel.release.starts_with('.'));
    assert!(kernel.bytes.len() as u64 <= LIMIT_BYTES.max(image.len() as u64));
}

/// One setup sector, then the payload (kernel `Documentation/arch/x86/boot.rst`).
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[0x1f1] = 1;
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    bytes[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    bytes[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes[0x300..0x304].copy_from_slice(b"6.1 ");
    bytes.extend(payload);
    bytes
}
