//! Accesses to memory, by the lanes of a warp at once.

use crate::{
    code::{Address, File, NONE, Op, Register},
    convert::extend,
    error::{FaultKind, Step, Stop},
    lanes::{LANES, Lanes, lanes_of, map},
    machine::{Machine, set_extended, visitor},
    memory::{Area, LOCAL_FIRST, LOCAL_WINDOW, Refused, SHARED_WINDOW, bytes_at, refuse},
    operation::Atomic,
    shared::Access,
    tensor,
    traffic::{bank_conflicts, is_contiguous, sectors},
    types::{Space, Type},
    warp::{Copies, Copy, Warp},
};

/// The most groups of copies of a thread that may be under way: a loop that never waits ends here.
const MOST_GROUPS: usize = 1 << 12;

/// The bytes of all lanes, one after the other.
struct Bytes {
    bytes: [u8; 16 * LANES],
    /// How many each lane has.
    each: usize,
}

impl Bytes {
    fn new(each: usize) -> Self {
        Self { bytes: [0; 16 * LANES], each }
    }

    fn of(&self, lane: usize) -> &[u8] {
        &self.bytes[lane * self.each..(lane + 1) * self.each]
    }

    fn of_mut(&mut self, lane: usize) -> &mut [u8] {
        &mut self.bytes[lane * self.each..(lane + 1) * self.each]
    }

    fn all(&self) -> &[u8] {
        &self.bytes[..LANES * self.each]
    }

    /// Returns an element of each lane.
    fn element(&self, element: Type, nth: usize) -> Lanes<u64> {
        let at = nth * element.bytes();
        let values = match element.bits {
            8 => self.gather::<1>(at),
            16 => self.gather::<2>(at),
            32 => self.gather::<4>(at),
            _ => self.gather::<8>(at),
        };
        if element.is_signed() { map(&values, |value| extend(element, value)) } else { values }
    }

    /// Returns so many bytes of each lane, from one of them on.
    #[inline(always)]
    fn gather<const N: usize>(&self, at: usize) -> Lanes<u64> {
        let mut values = [0; LANES];
        for (value, bytes) in values.iter_mut().zip(self.bytes.chunks_exact(self.each)) {
            let mut wide = [0; 8];
            wide[..N].copy_from_slice(&bytes[at..at + N]);
            *value = u64::from_le_bytes(wide);
        }
        values
    }

    fn set_element(&mut self, element: Type, nth: usize, values: &Lanes<u64>) {
        let at = nth * element.bytes();
        match element.bits {
            8 => self.scatter::<1>(at, values),
            16 => self.scatter::<2>(at, values),
            32 => self.scatter::<4>(at, values),
            _ => self.scatter::<8>(at, values),
        }
    }

    #[inline(always)]
    fn scatter<const N: usize>(&mut self, at: usize, values: &Lanes<u64>) {
        for (value, bytes) in values.iter().zip(self.bytes.chunks_exact_mut(self.each)) {
            bytes[at..at + N].copy_from_slice(&value.to_le_bytes()[..N]);
        }
    }
}

/// Where lanes access memory.
struct Places {
    /// As each area has them.
    addresses: Lanes<u64>,
    /// The lanes of each area: device, tables, shared and local.
    masks: [(Area, u32); 4],
}

/// Returns the addresses of lanes.
fn addresses(warp: &Warp, address: Address) -> Lanes<u64> {
    match address.file {
        File::Longs => {
            let offset = i64::from(address.offset);
            map(warp.long(address.base), |base| base.wrapping_add_signed(offset))
        }
        _ => {
            let offset = address.offset;
            map(warp.word(address.base), |base| u64::from(base.wrapping_add_signed(offset)))
        }
    }
}

/// Says which lanes access which memory.
fn places(space: Space, mask: u32, mut addresses: Lanes<u64>) -> Places {
    let mut masks = [(Area::Device, 0), (Area::Tables, 0), (Area::Shared, 0), (Area::Local, 0)];
    match space {
        Space::Shared => masks[2].1 = mask,
        Space::Local => masks[3].1 = mask,
        _ => {
            // The windows are above all addresses of a host.
            let upper = addresses.iter().fold(0, |upper, &address| upper | address);
            if upper >> 48 == 0 {
                masks[0].1 = mask;
                return Places { addresses, masks };
            }
            for lane in lanes_of(mask) {
                let (area, within) = Area::of(addresses[lane]);
                // A space has no windows to other spaces in it.
                let area = match (space, area) {
                    (Space::Global, Area::Shared | Area::Local) => Area::Device,
                    _ => {
                        addresses[lane] = within;
                        area
                    }
                };
                masks.iter_mut().filter(|of| of.0 == area).for_each(|of| of.1 |= 1 << lane);
            }
        }
    }
    Places { addresses, masks }
}

/// Refuses addresses that are no multiples of so many bytes.
fn check_alignment(mask: u32, addresses: &Lanes<u64>, bytes: usize) -> Step {
    let below = bytes as u64 - 1;
    let any = addresses.iter().fold(0, |any, address| any | address & below);
    if any == 0 {
        return Ok(());
    }
    match lanes_of(mask).find(|&lane| addresses[lane] & below != 0) {
        None => Ok(()),
        Some(lane) => {
            let what = format!("{}: not aligned", bytes_at(bytes, addresses[lane]));
            Err(Stop::new(FaultKind::Alignment, lane as u32, what))
        }
    }
}

impl Machine<'_> {
    /// Executes a load, a store, an atomic operation or a copy.
    pub(crate) fn access_memory(&mut self, warp: &mut Warp, op: &Op, mask: u32) -> Step {
        match *op {
            Op::Load { space, element, count, address, to, to_bits } => {
                let bytes = element.bytes() * usize::from(count);
                let addresses = addresses(warp, address);
                let bytes = self.load(warp, mask, &places(space, mask, addresses), bytes)?;
                for (nth, &to) in to[..usize::from(count)].iter().enumerate() {
                    set_extended(warp, to, to_bits, mask, &bytes.element(element, nth));
                }
                Ok(())
            }
            Op::Store { space, element, count, address, from, from_bits } => {
                let mut bytes = Bytes::new(element.bytes() * usize::from(count));
                for (nth, &from) in from[..usize::from(count)].iter().enumerate() {
                    let values = match from_bits {
                        64 => *warp.long(from),
                        _ => map(warp.word(from), u64::from),
                    };
                    bytes.set_element(element, nth, &values);
                }
                let addresses = addresses(warp, address);
                self.store(warp, mask, &places(space, mask, addresses), &bytes)
            }
            Op::Atomic { what, space, element, to, address, from } => {
                let addresses = addresses(warp, address);
                let places = places(space, mask, addresses);
                self.change(warp, mask, &places, (what, element), to, from)
            }
            Op::CopyAsync { size, to, from, bytes } => {
                let (to, from) = (addresses(warp, to), addresses(warp, from));
                self.copy(warp, mask, usize::from(size), (&to, &from), bytes)
            }
            _ => Ok(()),
        }
    }

    fn load(&mut self, warp: &Warp, mask: u32, places: &Places, each: usize) -> Step<Bytes> {
        let mut bytes = Bytes::new(each);
        let addresses = &places.addresses;
        check_alignment(mask, addresses, each)?;
        for &(area, mask) in places.masks.iter().filter(|of| of.1 != 0) {
            match area {
                Area::Device => self.load_device(mask, addresses, &mut bytes)?,
                Area::Tables => {
                    for lane in lanes_of(mask) {
                        let Some(from) = self.tables.read(addresses[lane], each) else {
                            return refuse(
                                lane,
                                each,
                                addresses[lane],
                                "in no table of the module",
                            );
                        };
                        bytes.of_mut(lane).copy_from_slice(from);
                    }
                }
                Area::Shared => {
                    self.counts.bank_conflicts += bank_conflicts(mask, addresses, each);
                    for lane in lanes_of(mask) {
                        let at = self.shared.offset(lane as u32, addresses[lane], each)?;
                        self.shared.access(visitor(warp, lane), Access::Read, at, each)?;
                        bytes.of_mut(lane).copy_from_slice(self.shared.bytes(at, each));
                    }
                }
                Area::Local => {
                    for lane in lanes_of(mask) {
                        let at = self.local(lane, addresses[lane], each)?;
                        bytes.of_mut(lane).copy_from_slice(&warp.local[at..at + each]);
                    }
                }
            }
        }
        Ok(bytes)
    }

    fn load_device(&mut self, mask: u32, addresses: &Lanes<u64>, bytes: &mut Bytes) -> Step {
        let each = bytes.each;
        self.counts.sectors_read += sectors(mask, addresses, each);
        if is_contiguous(mask, addresses, each) {
            let all = &mut bytes.bytes[..LANES * each];
            if self.memory.read(addresses[0], all).is_ok() {
                return Ok(());
            }
        }
        let mut before = None;
        for lane in lanes_of(mask) {
            // Threads often read the same.
            if let Some(from) = before.filter(|&from: &usize| addresses[from] == addresses[lane]) {
                bytes.bytes.copy_within(from * each..(from + 1) * each, lane * each);
                continue;
            }
            let read = self.memory.read(addresses[lane], bytes.of_mut(lane));
            read.or_else(|Refused(why)| refuse(lane, each, addresses[lane], &why))?;
            before = Some(lane);
        }
        Ok(())
    }

    fn store(&mut self, warp: &mut Warp, mask: u32, places: &Places, bytes: &Bytes) -> Step {
        let (addresses, each) = (&places.addresses, bytes.each);
        check_alignment(mask, addresses, each)?;
        for &(area, mask) in places.masks.iter().filter(|of| of.1 != 0) {
            match area {
                Area::Device => self.store_device(mask, addresses, bytes)?,
                Area::Tables => return Err(table_written(mask, addresses, each)),
                Area::Shared => {
                    self.counts.bank_conflicts += bank_conflicts(mask, addresses, each);
                    for lane in lanes_of(mask) {
                        let at = self.shared.offset(lane as u32, addresses[lane], each)?;
                        self.shared.access(visitor(warp, lane), Access::Write, at, each)?;
                        self.shared.bytes_mut(at, each).copy_from_slice(bytes.of(lane));
                    }
                }
                Area::Local => {
                    for lane in lanes_of(mask) {
                        let at = self.local(lane, addresses[lane], each)?;
                        warp.local[at..at + each].copy_from_slice(bytes.of(lane));
                    }
                }
            }
        }
        Ok(())
    }

    fn store_device(&mut self, mask: u32, addresses: &Lanes<u64>, bytes: &Bytes) -> Step {
        let each = bytes.each;
        self.counts.sectors_written += sectors(mask, addresses, each);
        if is_contiguous(mask, addresses, each)
            && self.memory.write(addresses[0], bytes.all()).is_ok()
        {
            return Ok(());
        }
        for lane in lanes_of(mask) {
            let written = self.memory.write(addresses[lane], bytes.of(lane));
            written.or_else(|Refused(why)| refuse(lane, each, addresses[lane], &why))?;
        }
        Ok(())
    }

    /// Returns where a thread's bytes are in the local memory of its warp.
    fn local(&self, lane: usize, address: u64, each: usize) -> Step<usize> {
        let (offset, size) = (address.wrapping_sub(LOCAL_FIRST), self.code.local_bytes);
        if offset > size as u64 || offset as usize + each > size {
            let why = format!("beyond the {size} bytes of local memory");
            return refuse(lane, each, address, &why);
        }
        Ok(lane * size + offset as usize)
    }

    /// Changes what is there, one lane after the other.
    fn change(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        places: &Places,
        (what, element): (Atomic, Type),
        to: Register,
        from: Register,
    ) -> Step {
        let (addresses, each) = (&places.addresses, element.bytes());
        check_alignment(mask, addresses, each)?;
        let operand = match element.bits {
            64 => *warp.long(from),
            _ => map(warp.word(from), u64::from),
        };
        let mut found = [0; LANES];
        for &(area, mask) in places.masks.iter().filter(|of| of.1 != 0) {
            match area {
                Area::Device => self.counts.sectors_written += sectors(mask, addresses, each),
                Area::Shared => {
                    self.counts.bank_conflicts += bank_conflicts(mask, addresses, each);
                }
                Area::Tables => return Err(table_written(mask, addresses, each)),
                Area::Local => {
                    let lane = mask.trailing_zeros() as usize;
                    return refuse(
                        lane,
                        each,
                        addresses[lane],
                        "local memory, which has no atomic operations",
                    );
                }
            }
            for lane in lanes_of(mask) {
                let change = |before: u64| changed(what, element, before, operand[lane]);
                found[lane] = match area {
                    Area::Shared => {
                        self.change_shared(warp, lane, addresses[lane], each, change)?
                    }
                    _ => self.change_device(lane, addresses[lane], each, change)?,
                };
            }
        }
        if to != NONE {
            set_extended(warp, to, element.bits, mask, &found);
        }
        Ok(())
    }

    fn change_shared(
        &mut self,
        warp: &Warp,
        lane: usize,
        address: u64,
        each: usize,
        change: impl Fn(u64) -> u64,
    ) -> Step<u64> {
        let at = self.shared.offset(lane as u32, address, each)?;
        self.shared.access(visitor(warp, lane), Access::Atomic, at, each)?;
        let bytes = self.shared.bytes_mut(at, each);
        let mut before = [0; 8];
        before[..each].copy_from_slice(bytes);
        let before = u64::from_le_bytes(before);
        bytes.copy_from_slice(&change(before).to_le_bytes()[..each]);
        Ok(before)
    }

    fn change_device(
        &mut self,
        lane: usize,
        address: u64,
        each: usize,
        change: impl Fn(u64) -> u64,
    ) -> Step<u64> {
        let mut bytes = [0; 8];
        let read = self.memory.read(address, &mut bytes[..each]);
        let before = u64::from_le_bytes(bytes);
        let after = change(before).to_le_bytes();
        let written = read.and_then(|()| self.memory.write(address, &after[..each]));
        written.or_else(|Refused(why)| refuse(lane, each, address, &why))?;
        Ok(before)
    }

    /// Begins copies, which arrive when they are waited for.
    fn copy(
        &mut self,
        warp: &mut Warp,
        mask: u32,
        size: usize,
        (to, from): (&Lanes<u64>, &Lanes<u64>),
        bytes: Register,
    ) -> Step {
        let counts = *warp.word(bytes);
        check_alignment(mask, to, size)?;
        check_alignment(mask, from, size)?;
        self.counts.bank_conflicts += bank_conflicts(mask, to, size);
        let mut reading = 0;
        for lane in lanes_of(mask) {
            let count = counts[lane] as usize;
            if count > size {
                let what = format!("a copy of {count} bytes to {size}");
                return Err(Stop::new(FaultKind::Address, lane as u32, what));
            }
            let offset = self.shared.offset(lane as u32, to[lane], size)?;
            self.shared.access(visitor(warp, lane), Access::Copy, offset, size)?;
            let mut copied = [0; 16];
            if count > 0 {
                reading |= 1 << lane;
                self.read_global(lane, from[lane], &mut copied[..count])?;
            }
            let copy = Copy { to: offset, size, from: from[lane], count, bytes: copied };
            warp.copies[lane].open.push(copy);
        }
        self.counts.sectors_read += sectors(reading, from, size);
        Ok(())
    }

    /// Reads device memory or a table.
    fn read_global(&self, lane: usize, address: u64, to: &mut [u8]) -> Step {
        let each = to.len();
        match Area::of(address) {
            (Area::Tables, within) => match self.tables.read(within, each) {
                Some(bytes) => to.copy_from_slice(bytes),
                None => return refuse(lane, each, address, "in no table of the module"),
            },
            _ => {
                let read = self.memory.read(address, to);
                read.or_else(|Refused(why)| refuse(lane, each, address, &why))?;
            }
        }
        Ok(())
    }

    /// Makes a group of the copies that are in none yet.
    pub(crate) fn commit(&mut self, warp: &mut Warp, mask: u32) -> Step {
        for lane in lanes_of(mask) {
            let Copies { open, groups } = &mut warp.copies[lane];
            groups.push_back(std::mem::take(open));
            if groups.len() > MOST_GROUPS {
                let what = format!("more than {MOST_GROUPS} groups of copies are under way");
                return Err(Stop::new(FaultKind::Limit, lane as u32, what));
            }
        }
        Ok(())
    }

    /// Ends copies until so many groups are under way; those in no group yet only if all are waited for.
    pub(crate) fn wait(&mut self, warp: &mut Warp, mask: u32, most: usize, all: bool) -> Step {
        for lane in lanes_of(mask) {
            let mut arrived = Vec::new();
            let copies = &mut warp.copies[lane];
            let groups = copies.groups.len().saturating_sub(most);
            copies.groups.drain(..groups).for_each(|group| arrived.extend(group));
            if all {
                arrived.append(&mut copies.open);
            }
            for copy in arrived {
                let mut now = [0; 16];
                self.read_global(lane, copy.from, &mut now[..copy.count])?;
                if now != copy.bytes {
                    let what = format!(
                        "{} changed while they were copied to shared memory",
                        bytes_at(copy.count, copy.from)
                    );
                    return Err(Stop::new(FaultKind::UnderWay, lane as u32, what));
                }
                self.shared.arrive(visitor(warp, lane), copy.to, &copy.bytes[..copy.size]);
            }
        }
        Ok(())
    }

    /// Loads matrices of 8 rows; the address of a row is that of the lane with its number.
    pub(crate) fn load_matrices(
        &mut self,
        warp: &mut Warp,
        transposes: bool,
        to: &[Register],
        address: Address,
    ) -> Step {
        let addresses = addresses(warp, address);
        let used = u32::MAX >> (32 - 8 * to.len());
        check_alignment(used, &addresses, 16)?;
        self.counts.bank_conflicts += bank_conflicts(used, &addresses, 16);
        for (matrix, &to) in to.iter().enumerate() {
            let mut rows = [[0; 16]; 8];
            for (row, bytes) in rows.iter_mut().enumerate() {
                let lane = 8 * matrix + row;
                let at = self.shared.offset(lane as u32, addresses[lane], 16)?;
                self.shared.access(visitor(warp, lane), Access::Read, at, 16)?;
                bytes.copy_from_slice(self.shared.bytes(at, 16));
            }
            warp.set_word(to, u32::MAX, &tensor::elements(transposes, &rows));
        }
        Ok(())
    }

    /// Makes addresses of a space of generic ones, or the other way.
    pub(crate) fn convert_address(to_space: bool, space: Space, a: &Lanes<u64>) -> Lanes<u64> {
        let window = match space {
            Space::Shared => SHARED_WINDOW,
            Space::Local => LOCAL_WINDOW,
            _ => 0,
        };
        map(a, |a| if to_space { a.wrapping_sub(window) } else { a.wrapping_add(window) })
    }
}

fn table_written(mask: u32, addresses: &Lanes<u64>, each: usize) -> Box<Stop> {
    let lane = mask.trailing_zeros();
    let what = format!("{}: a constant table", bytes_at(each, addresses[lane as usize]));
    Stop::new(FaultKind::Table, lane, what)
}

/// Returns what an atomic operation leaves.
fn changed(what: Atomic, element: Type, before: u64, operand: u64) -> u64 {
    let signed = |of: u64| extend(element, of) as i64;
    match what {
        Atomic::Add => before.wrapping_add(operand),
        Atomic::Min if element.is_signed() => signed(before).min(signed(operand)) as u64,
        Atomic::Max if element.is_signed() => signed(before).max(signed(operand)) as u64,
        Atomic::Min => before.min(operand),
        Atomic::Max => before.max(operand),
        Atomic::And => before & operand,
        Atomic::Or => before | operand,
        Atomic::Xor => before ^ operand,
        Atomic::Exchange => operand,
    }
}
