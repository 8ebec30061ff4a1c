//! Deltas. The first byte says which way: a file as it comes; one whose digests are right and whose streams are not; or
//! two objects, of which a delta is made and applied.

use plumb_delta::memory::Memory;
use plumb_delta::{Delta, Error, create, fuzz};

/// Most bytes of the object that a delta with right digests claims to make; more only make a run slower.
const OBJECT: u64 = 1 << 20;

pub(crate) fn run(data: &[u8]) {
    let Some((&way, data)) = data.split_first() else { return };
    match way % 3 {
        0 => apply(data, b"an old object"),
        1 => sealed(data),
        _ => round_trip(data),
    }
}

/// Applies a delta where `base` is; nothing comes out that does not have its digest.
fn apply(delta: &[u8], base: &[u8]) {
    let memory = Memory::default();
    let base = memory.add("base", base);
    let file = delta.to_vec();
    let Ok(opened) = Delta::open(&file) else { return };
    let whole: u64 = opened.objects().iter().map(|object| object.size).fold(0, u64::saturating_add);
    if whole > OBJECT {
        return;
    }
    let result = opened.apply(&memory, &mut memory.clone());
    for object in opened.objects() {
        let made = memory.get(&object.digest);
        assert!(result.is_err() || made.is_some());
        if let Some(made) = made {
            assert_eq!(plumb_model::Digest::of(&made), object.digest);
        }
    }
    let wrong_base = matches!(&result, Err(Error::WrongBase { base: named }) if *named == base.digest);
    // The length in the header may be another than that of the object; its bytes are right.
    let length = opened.bases().iter().find(|entry| entry.digest == base.digest).map(|entry| entry.size);
    assert!(!wrong_base || length != Some(base.size), "the base is right");
}

/// | size of the object 3, and whether it has a tree in the top bit | six times: length 2, bytes | the base |
fn sealed(data: &[u8]) {
    let Some((size, mut rest)) = data.split_first_chunk::<3>() else { return };
    let size = u64::from(u32::from_le_bytes([size[0], size[1], size[2], 0]));
    let mut streams = [&[][..]; 6];
    for stream in &mut streams {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { return };
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        (*stream, rest) = after.split_at(length);
    }
    let delta = fuzz::sealed(rest, (size & 0x7f_ffff) % OBJECT, size >> 23 == 1, streams);
    apply(&delta, rest);
}

/// | length of the old object 2 | old | new |
fn round_trip(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (old, new) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let (maker, user) = (Memory::default(), Memory::default());
    let (old, made) = (maker.add("x", old), maker.add("x", new));
    let delta = create(std::slice::from_ref(&old), std::slice::from_ref(&made), &maker).expect("all is here");
    user.put(old.digest, &maker.get(&old.digest).expect("it was added"));
    Delta::open(&delta).expect("it was just made").apply(&user, &mut user.clone()).expect("it is whole");
    assert_eq!(user.get(&made.digest).as_deref().map(Vec::as_slice), Some(new));
}
