//! The value that passes through the kernel with an operation: an index into the table of operations, with a
//! generation. Never a pointer: a late or invented completion finds no operation, and nothing breaks.

/// An index with a generation, and the only pair of functions that packs and unpacks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    pub(super) fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 64-bit value")]
    pub(super) fn unpack(user_data: u64) -> Token {
        Token { index: user_data as u32, generation: (user_data >> 32) as u32 }
    }
}

/// Operations under way, found by token. Never shrinks; grows only when more operations are under way than ever before.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: Vec<Entry<T>>,
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(super) fn with_capacity(capacity: usize) -> Table<T> {
        Table { entries: Vec::with_capacity(capacity), vacant: Vec::with_capacity(capacity) }
    }

    pub(super) fn insert(&mut self, value: T) -> Token {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            u32::try_from(self.entries.len() - 1).expect("operations are bounded by slots and channels")
        });
        let entry = &mut self.entries[index as usize];
        entry.value = Some(value);
        Token { index, generation: entry.generation }
    }

    pub(super) fn find(&mut self, token: Token) -> Option<&mut T> {
        let entry = self.entries.get_mut(token.index as usize)?;
        if entry.generation == token.generation { entry.value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        self.find(token)?;
        let entry = &mut self.entries[token.index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.vacant.push(token.index);
        entry.value.take()
    }

    /// Everything that is under way.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (Token, &T)> {
        (0..).zip(&self.entries).filter_map(|(index, entry)| {
            let token = Token { index, generation: entry.generation };
            entry.value.as_ref().map(|value| (token, value))
        })
    }

    /// Everything that is left.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.vacant.clear();
        self.entries.drain(..).filter_map(|entry| entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        let token = Token { index: 0xdead_beef, generation: 0x1234_5678 };
        assert_eq!(Token::unpack(token.pack()), token);
    }

    #[test]
    fn a_late_token_finds_nothing() {
        let mut table = Table::with_capacity(1);
        let old = table.insert('a');
        assert_eq!(table.remove(old), Some('a'));
        let new = table.insert('b');
        assert_eq!(table.find(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.find(new), Some(&mut 'b'));
        assert_eq!(table.tokens().count(), 1);
    }

    #[test]
    fn an_invented_token_finds_nothing() {
        let mut table = Table::with_capacity(1);
        table.insert('a');
        assert_eq!(table.find(Token::unpack(u64::MAX)), None);
    }
}
