//! Accesses to memory, by the lanes of a warp at once.

mod atomics;
mod copies;

use crate::{
    code::{Address, File, Op, Register},
    compute::set_extended,
    convert::extend,
    error::{FaultKind, Step, Stop},
    lanes::{LANES, Lanes, lanes_of, map},
    machine::{Machine, visitor},
    memory::{Area, LOCAL_FIRST, LOCAL_WINDOW, Refused, SHARED_WINDOW, bytes_at, refuse},
    shared::Access,
    tensor,
    traffic::{bank_conflicts, is_contiguous, sectors},
    types::{Space, Type},
    warp::Warp,
};

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
            Op::Load { space, is_constant, element, count, address, to, to_bits } => {
                let bytes = element.bytes() * usize::from(count);
                let addresses = addresses(warp, address);
                let places = places(space, mask, addresses);
                if is_constant {
                    check_constant(&places, bytes)?;
                }
                let bytes = self.load(warp, mask, &places, bytes)?;
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

/// Refuses to read what somebody may write where a load promises that nobody does.
fn check_constant(places: &Places, each: usize) -> Step {
    let [(_, mask), ..] = places.masks;
    match lanes_of(mask).next() {
        Some(lane) => refuse(lane, each, places.addresses[lane], "no table, as `.nc` has to read"),
        None => Ok(()),
    }
}

fn table_written(mask: u32, addresses: &Lanes<u64>, each: usize) -> Box<Stop> {
    let lane = mask.trailing_zeros();
    let what = format!("{}: a constant table", bytes_at(each, addresses[lane as usize]));
    Stop::new(FaultKind::Table, lane, what)
}
