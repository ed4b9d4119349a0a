//! A buffer as O_DIRECT wants it: its first byte on an address that every disk accepts.

/// What addresses, and as far as the disk allows offsets and lengths, are multiples of.
pub const ALIGN: usize = 4096;

/// Bytes of a fixed capacity, aligned, of which the first `filled` mean something.
pub struct Block {
    bytes: Vec<u8>,
    start: usize,
    capacity: usize,
    /// How many of them mean something.
    pub filled: usize,
}

impl Block {
    /// Zeros.
    pub fn new(capacity: usize) -> Block {
        let bytes = vec![0; capacity + ALIGN];
        // Never more than ALIGN: one byte is as good as another to a pointer to bytes.
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Block {
            bytes,
            start,
            capacity,
            filled: 0,
        }
    }

    /// The bytes `from..to`; empty when there are not so many.
    pub fn part(&self, from: usize, to: usize) -> &[u8] {
        let (from, to) = (self.start + from, self.start + to.min(self.capacity));
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// The same to write to.
    pub fn part_mut(&mut self, from: usize, to: usize) -> &mut [u8] {
        let (from, to) = (self.start + from, self.start + to.min(self.capacity));
        self.bytes.get_mut(from..to).unwrap_or_default()
    }

    /// How many fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_is_aligned_also_after_a_move() {
        for capacity in [1, 4096, 5000] {
            let mut block = Block::new(capacity);
            block.part_mut(0, capacity).fill(7);
            let moved = Box::new(block);
            assert_eq!(moved.part(0, capacity).as_ptr().addr() % ALIGN, 0);
            assert_eq!(moved.part(0, capacity + 9).len(), capacity);
            assert!(moved.part(0, capacity).iter().all(|byte| *byte == 7));
            assert_eq!(moved.part(capacity, capacity + 9), b"");
        }
    }
}
