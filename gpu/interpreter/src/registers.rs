//! The names of registers and variables while an entry is decoded, and the constants that it reads.

use std::{collections::HashMap, mem};

use crate::{
    code::{Code, Declared, File, Place, Register, Special},
    types::{Space, Type},
};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Named {
    Register(Place, u8),
    /// Registers with numbers behind the name.
    Range(Place, u8, u32),
    /// An address in a space.
    Variable(Space, u64),
}

/// The registers of an entry.
#[derive(Default)]
pub(crate) struct Registers<'t> {
    /// How many scopes were open when a name was declared, and what it stands for.
    named: HashMap<&'t str, (usize, Named)>,
    /// What names stood for outside of each open scope.
    scopes: Vec<HashMap<&'t str, Option<(usize, Named)>>>,
    /// How many there are of each file.
    counts: [usize; 3],
    declared: [Vec<Declared>; 3],
    words: HashMap<u32, Register>,
    longs: HashMap<u64, Register>,
    truths: [Option<Register>; 2],
    specials: Vec<(Register, Special)>,
    /// What sums carry.
    condition: Option<Register>,
    /// What the instruction that is decoded reads.
    reads: Vec<Place>,
}

impl<'t> Registers<'t> {
    /// Adds registers of a type: one, or so many with numbers.
    pub(crate) fn declare(
        &mut self,
        element: &str,
        name: &'t str,
        count: Option<u32>,
    ) -> Result<(), String> {
        let (file, bits) = match (element, Type::named(element)) {
            ("pred", _) => (File::Predicates, 1),
            (_, Some(Type { bits: bits @ (16 | 32), .. })) => (File::Words, bits),
            (_, Some(Type { bits: 64, .. })) => (File::Longs, 64),
            _ => return Err(format!("registers of an unknown type: .{element}")),
        };
        let first = self.allocate(file, count.unwrap_or(1) as usize);
        let first = first.ok_or("too many registers")?;
        self.declared[file as usize].push(Declared { first, count, name: name.into() });
        let place = Place { file, register: first };
        self.name(
            name,
            count.map_or(Named::Register(place, bits), |count| Named::Range(place, bits, count)),
        )
    }

    fn allocate(&mut self, file: File, count: usize) -> Option<Register> {
        let first = self.counts[file as usize];
        // The last number stands for none.
        if first + count >= usize::from(Register::MAX) {
            return None;
        }
        self.counts[file as usize] += count;
        Some(first as Register)
    }

    fn name(&mut self, name: &'t str, named: Named) -> Result<(), String> {
        let before = self.named.insert(name, (self.scopes.len(), named));
        let is_known = match self.scopes.last_mut() {
            Some(scope) => scope.insert(name, before).is_some(),
            None => before.is_some(),
        };
        if is_known { Err(format!("there is another {name}")) } else { Ok(()) }
    }

    /// Names an address.
    pub(crate) fn variable(
        &mut self,
        name: &'t str,
        space: Space,
        address: u64,
    ) -> Result<(), String> {
        self.name(name, Named::Variable(space, address))
    }

    /// Begins a scope.
    pub(crate) fn open(&mut self) {
        self.scopes.push(HashMap::new());
    }

    /// Ends a scope: names stand for what they did before.
    pub(crate) fn close(&mut self) {
        for (name, before) in self.scopes.pop().into_iter().flatten() {
            match before {
                Some(before) => self.named.insert(name, before),
                None => self.named.remove(name),
            };
        }
    }

    /// Returns a register and its bits, by its name: that of the innermost scope, where it is one of several, too.
    pub(crate) fn find(&self, name: &str) -> Option<(Place, u8)> {
        let single = match self.named.get(name) {
            Some(&(depth, Named::Register(place, bits))) => Some((depth, place, bits)),
            _ => None,
        };
        let found = match (single, self.find_numbered(name)) {
            (Some(single), Some(numbered)) if numbered.0 > single.0 => numbered,
            (single, numbered) => single.or(numbered)?,
        };
        Some((found.1, found.2))
    }

    fn find_numbered(&self, name: &str) -> Option<(usize, Place, u8)> {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (common, number) = name.split_at(name.len() - digits);
        let &(depth, Named::Range(first, bits, count)) = self.named.get(common)? else {
            return None;
        };
        // Of `%r01` there is none.
        let is_canonical = digits == 1 || !number.starts_with('0');
        let number = number.parse::<u32>().ok().filter(|&of| is_canonical && of < count)?;
        let register = first.register + number as Register;
        Some((depth, Place { register, ..first }, bits))
    }

    /// Returns the space and address of a variable of the entry, or of shared memory.
    pub(crate) fn variable_named(&self, name: &str) -> Option<(Space, u64)> {
        match self.named.get(name) {
            Some(&(_, Named::Variable(space, address))) => Some((space, address)),
            _ => None,
        }
    }

    /// Notes that a register is read.
    pub(crate) fn read(&mut self, place: Place) {
        self.reads.push(place);
    }

    pub(crate) fn take_reads(&mut self) -> Vec<Place> {
        mem::take(&mut self.reads)
    }

    /// Returns the register of a constant of so many bits.
    pub(crate) fn constant(&mut self, value: u64, bits: u8) -> Option<Register> {
        if bits == 64 {
            if let Some(&register) = self.longs.get(&value) {
                return Some(register);
            }
            let register = self.allocate(File::Longs, 1)?;
            self.longs.insert(value, register);
            return Some(register);
        }
        let value = if bits == 16 { value as u32 & 0xffff } else { value as u32 };
        if let Some(&register) = self.words.get(&value) {
            return Some(register);
        }
        let register = self.allocate(File::Words, 1)?;
        self.words.insert(value, register);
        Some(register)
    }

    /// Returns the register of a constant predicate.
    pub(crate) fn truth(&mut self, value: bool) -> Option<Register> {
        let known = self.truths[usize::from(value)];
        let register = known.or_else(|| self.allocate(File::Predicates, 1))?;
        self.truths[usize::from(value)] = Some(register);
        Some(register)
    }

    /// Returns the register of what sums of several parts carry, which the ISA calls `CC.CF`.
    pub(crate) fn condition(&mut self) -> Option<Place> {
        let file = File::Predicates;
        let register = match self.condition {
            Some(register) => register,
            None => {
                let first = self.allocate(file, 1)?;
                let name = "CC.CF".into();
                self.declared[file as usize].push(Declared { first, count: None, name });
                first
            }
        };
        self.condition = Some(register);
        Some(Place { file, register })
    }

    pub(crate) fn special(&mut self, special: Special) -> Option<Register> {
        if let Some(&(register, _)) = self.specials.iter().find(|(_, of)| *of == special) {
            return Some(register);
        }
        let register = self.allocate(File::Words, 1)?;
        self.specials.push((register, special));
        Some(register)
    }

    /// Hands over to the code what it has to know about its registers.
    pub(crate) fn finish(self, code: &mut Code) {
        [code.words, code.longs, code.predicates] = self.counts;
        code.declared = self.declared;
        code.constant_words = self.words.into_iter().map(|(value, of)| (of, value)).collect();
        code.constant_longs = self.longs.into_iter().map(|(value, of)| (of, value)).collect();
        let truths = self.truths.into_iter().zip([false, true]);
        code.constant_predicates =
            truths.filter_map(|(register, value)| Some((register?, value))).collect();
        code.specials = self.specials;
    }
}
