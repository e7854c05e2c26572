"""pyarrow.plasma of pyarrow 11, against Plasma's daemon or ours, as `where` says."""

import pyarrow as pa
from plasma_like import PlasmaLike
from pyarrow import plasma
from workloads import main


class Plasma11(PlasmaLike):
    def put_tensor(self, number, array):
        tensor = pa.Tensor.from_numpy(array)
        buffer = self.client.create(self.id(number), pa.ipc.get_tensor_size(tensor))
        pa.ipc.write_tensor(tensor, pa.FixedSizeBufferWriter(buffer))
        del buffer
        self.hand_over(number)

    def first_element(self, number):
        (buffer,) = self.client.get_buffers([self.id(number)])
        return pa.ipc.read_tensor(pa.BufferReader(buffer)).to_numpy()[0]


main(Plasma11(plasma))
