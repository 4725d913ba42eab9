//! Pooling and unpooling, handed on.

use adaloss_core::format::Element;

use crate::{
    Epilogue, Mut, OperationKind, Plain, Ref,
    network::{MaxPool, Pooling, SumPool},
    wrap::{Hook, Shape, Wrapped},
};

impl<E: Element + Plain, D: MaxPool<E>, H: Hook<D>> MaxPool<E> for Wrapped<D, H> {
    fn max_pool(
        &mut self,
        shape: Pooling,
        input: Ref<'_, D, E>,
        to: Mut<'_, D, E>,
        places: Mut<'_, D, u32>,
    ) -> Result<(), H::Error> {
        self.run_filling(OperationKind::MaxPool, Shape::Pooling(shape), to, |device, to| {
            device.max_pool(shape, input, to, places)
        })
    }

    fn unpool(
        &mut self,
        shape: Pooling,
        from: Ref<'_, D, E>,
        places: Ref<'_, D, u32>,
        to: Mut<'_, D, E>,
    ) -> Result<(), H::Error> {
        self.run_filling(OperationKind::Unpool, Shape::Pooling(shape), to, |device, to| {
            device.unpool(shape, from, places, to)
        })
    }

    fn pick(
        &mut self,
        shape: Pooling,
        from: Ref<'_, D, E>,
        places: Ref<'_, D, u32>,
        to: Mut<'_, D, E>,
    ) -> Result<(), H::Error> {
        self.run_filling(OperationKind::Pick, Shape::Pooling(shape), to, |device, to| {
            device.pick(shape, from, places, to)
        })
    }
}

impl<E: Element + Plain, D: SumPool<E>, H: Hook<D>> SumPool<E> for Wrapped<D, H> {
    fn average_pool(
        &mut self,
        shape: Pooling,
        input: Ref<'_, D, E>,
        to: Mut<'_, D, E>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Pooling(shape);
        self.run_narrowing(
            OperationKind::AveragePool,
            told,
            to,
            epilogue,
            |device, to, epilogue| device.average_pool(shape, input, to, epilogue),
        )
    }

    fn average_pool_input(
        &mut self,
        shape: Pooling,
        gradient: Ref<'_, D, E>,
        to: Mut<'_, D, E>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let (operation, told) = (OperationKind::AveragePoolInput, Shape::Pooling(shape));
        self.run_narrowing(operation, told, to, epilogue, |device, to, epilogue| {
            device.average_pool_input(shape, gradient, to, epilogue)
        })
    }

    fn max_pool_input(
        &mut self,
        shape: Pooling,
        gradient: Ref<'_, D, E>,
        places: Ref<'_, D, u32>,
        to: Mut<'_, D, E>,
        epilogue: Epilogue<'_, Self::Space>,
    ) -> Result<(), H::Error> {
        let told = Shape::Pooling(shape);
        self.run_narrowing(
            OperationKind::MaxPoolInput,
            told,
            to,
            epilogue,
            |device, to, epilogue| device.max_pool_input(shape, gradient, places, to, epilogue),
        )
    }
}
