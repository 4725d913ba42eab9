//! Poolings that are sums over windows.

use adaloss_core::format::Element;

use super::{
    CHUNK, Cpu, Scratch, Sink, vectors,
    window::{Pool, Window, Windows, neighbours},
};
use adaloss_hal::{
    Fitting, HostError, HostSpace, Plain, Run,
    network::{AveragePool, AveragePoolInput, MaxPoolInput, Pooling},
};

impl<E: Element + Plain> Run<AveragePool<'_, '_, HostSpace, E>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePool<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let AveragePool { pooling, input, to, epilogue } = operation.into_inner();
        let sink = Sink::open(epilogue.reborrow())?;
        let windows = Windows::of_output(*pooling);
        let sums = Sums { windows, from: input, indices: None, area: area(*pooling) };
        sums.put(self, to, &sink);
        Ok(())
    }
}

impl<E: Element + Plain> Run<AveragePoolInput<'_, '_, HostSpace, E>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, AveragePoolInput<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let AveragePoolInput { pooling, gradient, to, epilogue } = operation.into_inner();
        let sink = Sink::open(epilogue.reborrow())?;
        let windows = Windows::of_input(*pooling);
        let sums = Sums { windows, from: gradient, indices: None, area: area(*pooling) };
        sums.put(self, to, &sink);
        Ok(())
    }
}

impl<E: Element + Plain> Run<MaxPoolInput<'_, '_, HostSpace, E>> for Cpu {
    fn execute(
        &mut self,
        operation: Fitting<'_, MaxPoolInput<'_, '_, HostSpace, E>>,
    ) -> Result<(), HostError> {
        let MaxPoolInput { pooling, gradient, indices, to, epilogue } = operation.into_inner();
        let sink = Sink::open(epilogue.reborrow())?;
        let windows = Windows::of_input(*pooling);
        let sums = Sums { windows, from: gradient, indices: Some(*indices), area: 1.0 };
        sums.put(self, to, &sink);
        Ok(())
    }
}

/// Returns the elements of a window, padding included.
fn area(shape: Pooling) -> f32 {
    (shape.window[0] * shape.window[1]) as f32
}

/// Sums over windows, divided by the area.
struct Sums<'a, E> {
    windows: Windows,
    from: &'a [E],
    /// Which pixel each element belongs to, if it is not all that see it.
    indices: Option<&'a [u32]>,
    area: f32,
}

impl<E: Element> Sums<'_, E> {
    fn put(&self, cpu: &Cpu, to: &mut [E], sink: &Sink<'_, E>) {
        let size = self.windows.chunk(CHUNK);
        cpu.each_chunk(to, size, |nth, to| {
            let (first, mut sums) = (nth * size, Scratch::any(to.len()));
            let (from, area) = (self.from, self.area);
            vectors(
                #[inline(always)]
                || match self.indices {
                    None => {
                        let mut pool = Mean { from, area, to: &mut sums };
                        self.windows.run(first, to.len(), &mut pool);
                    }
                    Some(indices) => {
                        let mut pool = Taken { from, indices, to: &mut sums };
                        self.windows.run(first, to.len(), &mut pool);
                    }
                },
            );
            sink.put(first, &sums, to);
        });
    }
}

/// Sums of all elements, divided by the area.
struct Mean<'a, E> {
    from: &'a [E],
    area: f32,
    to: &'a mut [f32],
}

impl<E: Element> Pool for Mean<'_, E> {
    #[inline(always)]
    fn lanes<const N: usize>(&mut self, window: &Window<'_>, channel: usize, first: usize) {
        let mut sums = [0.0; N];
        window.each(
            channel,
            #[inline(always)]
            |element, _| {
                let from = neighbours::<_, N>(self.from, element);
                for (sum, x) in sums.iter_mut().zip(from) {
                    *sum += x.widen();
                }
            },
        );
        self.to[first..first + N].copy_from_slice(&sums.map(|sum| sum / self.area));
    }
}

/// Sums of the elements whose place is the pixel.
struct Taken<'a, E> {
    from: &'a [E],
    indices: &'a [u32],
    to: &'a mut [f32],
}

impl<E: Element> Pool for Taken<'_, E> {
    #[inline(always)]
    fn lanes<const N: usize>(&mut self, window: &Window<'_>, channel: usize, first: usize) {
        let mut sums = [0.0; N];
        window.each(
            channel,
            #[inline(always)]
            |element, _| {
                let from = neighbours::<_, N>(self.from, element);
                let indices = neighbours::<_, N>(self.indices, element);
                for i in 0..N {
                    let x = from[i].widen();
                    // Sums begin at +0 and so never are -0: another +0 changes none.
                    sums[i] += if indices[i] == window.position { x } else { 0.0 };
                }
            },
        );
        self.to[first..first + N].copy_from_slice(&sums);
    }
}
