//! The order in which a hash table of GLib gives its entries: files that are written from one have it.

/// Sizes are powers of two, and the modulus of each is the next smaller prime (ghash.c, "prime_mod").
const PRIMES: [u32; 24] = [
    1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071, 262_139,
    524_287, 1_048_573, 2_097_143, 4_194_301, 8_388_593,
];
const MIN_SHIFT: usize = 3;

/// A map from text with GLib's order.
#[derive(Debug, Clone)]
pub(super) struct Table<V> {
    slots: Vec<Option<(u32, String, V)>>,
    shift: usize,
    count: usize,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Table { slots: empty(MIN_SHIFT), shift: MIN_SHIFT, count: 0 }
    }
}

fn empty<V>(shift: usize) -> Vec<Option<(u32, String, V)>> {
    std::iter::repeat_with(|| None).take(1 << shift).collect()
}

/// `g_str_hash`: bytes are signed; the two lowest values mean something else in a table.
fn hash(key: &str) -> u32 {
    let step = |hash: u32, byte: u8| hash.wrapping_mul(33).wrapping_add_signed(i32::from(byte.cast_signed()));
    key.bytes().fold(5381, step).max(2)
}

impl<V> Table<V> {
    /// The first slot of a hash that is not taken.
    fn free(&self, hash: u32, is_taken: impl Fn(usize) -> bool) -> usize {
        let mut at = (hash.wrapping_mul(11) % PRIMES[self.shift]) as usize;
        let mut step = 0;
        while is_taken(at) {
            step += 1;
            at = (at + step) & (self.slots.len() - 1);
        }
        at
    }

    /// The slot of a key, or the one it would get.
    fn slot(&self, hash: u32, key: &str) -> usize {
        let is_other = |(other, known, _): &(u32, String, V)| (*other, known.as_str()) != (hash, key);
        self.free(hash, |at| self.slots[at].as_ref().is_some_and(is_other))
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.slots[self.slot(hash(key), key)].as_ref().map(|(_, _, value)| value)
    }

    /// The value of a key, made if it is not there.
    pub(super) fn entry(&mut self, key: &str, make: impl FnOnce() -> V) -> Option<&mut V> {
        let hash = hash(key);
        if self.slots[self.slot(hash, key)].is_none() {
            self.insert(key, make());
        }
        let at = self.slot(hash, key);
        self.slots[at].as_mut().map(|(_, _, value)| value)
    }

    pub(super) fn insert(&mut self, key: &str, value: V) {
        let hash = hash(key);
        let at = self.slot(hash, key);
        let is_new = self.slots[at].is_none();
        self.slots[at] = Some((hash, key.to_owned(), value));
        if is_new {
            self.count += 1;
            self.grow();
        }
    }

    /// After each new key; nothing is ever removed.
    fn grow(&mut self) {
        let size = self.slots.len();
        if size > self.count + self.count / 16 {
            return;
        }
        // Four thirds of what is there, and then the next power of two.
        let wanted = (self.count as f64 * 1.333) as usize;
        self.shift = ((usize::BITS - wanted.leading_zeros()) as usize).max(MIN_SHIFT).min(PRIMES.len() - 1);
        // In place, as GLib does it: what is in the way of an entry gets its own new place at once.
        let old_size = size;
        self.slots.resize_with(1 << self.shift, || None);
        let mut done = vec![false; self.slots.len()];
        for from in 0..old_size {
            let mut left = if done[from] { None } else { self.slots[from].take() };
            while let Some(entry) = left {
                let at = self.free(entry.0, |at| done[at]);
                done[at] = true;
                left = self.slots[at].replace(entry);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.slots.iter().flatten().map(|(_, key, value)| (key.as_str(), value))
    }

    pub(super) fn sorted(&self) -> Vec<(&str, &V)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by_key(|(key, _)| *key);
        all
    }
}
