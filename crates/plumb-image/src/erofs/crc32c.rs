//! CRC-32C (Castagnoli, RFC 3720 appendix B.4), as the EROFS superblock uses it: start value all ones, no final
//! inversion.

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value() {
        // RFC 3720 B.4 inverts at the end; 0xe3069283 is the common check value of "123456789".
        assert_eq!(!super::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(!super::crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
