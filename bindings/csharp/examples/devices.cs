// The same program on the CPU and on a GPU: the argument says where the cache lies, "cpu" or "cuda:0", and a second one names a file for
// what was attended to. A prompt of 200 tokens, then 8 tokens one by one; what is stored is the same on both, to the bit.
using System;
using System.IO;
using System.Runtime.InteropServices;
using Kvc;

static class Devices {
  const int Prompt = 200;

  static void Main(string[] arguments) {
    string place = arguments.Length > 0 ? arguments[0] : "cpu";
    bool onCpu = place == "cpu";
    if (!onCpu && !place.StartsWith("cuda:", StringComparison.Ordinal))
      throw new ArgumentException(place + " is neither cpu nor cuda:NUMBER");
    using (Cache cache = onCpu ? Inputs.NewCache() : Inputs.NewCache(Device.Cuda, long.Parse(place.Substring("cuda:".Length))))
    using (Sequence sequence = cache.CreateSequence())
    using (var outputs = new MemoryStream()) {
      if (onCpu) {
        RunAll(cache, sequence, null, Inputs.RunLayer, outputs);
      } else {
        var options = new StepOptions { Buffers = Device.Cuda };
        using (var buffers = new Buffers(cache)) RunAll(cache, sequence, options, buffers.RunLayer, outputs);
      }
      Console.WriteLine("tokens " + sequence.Length);
      Console.WriteLine("codes " + Codes(sequence));
      Console.WriteLine("record_bytes " + sequence.Stats().RecordBytes);
      if (arguments.Length > 1) File.WriteAllBytes(arguments[1], outputs.ToArray());
    }
  }

  static void RunAll(Cache cache, Sequence sequence, StepOptions options, Inputs.LayerRun run, Stream outputs) {
    for (int i = 0; i <= 8; i++) {
      Inputs.Run(cache, sequence, i == 0 ? Prompt : 1, 1, options, run, output => {
        byte[] bytes = MemoryMarshal.AsBytes(new Span<float>(output)).ToArray();
        outputs.Write(bytes, 0, bytes.Length);
      });
    }
  }

  /// <summary>Of the device's memory, for the prompt's step and those after it.</summary>
  sealed class Buffers : IDisposable {
    readonly Cache cache;
    readonly DeviceBuffer k, v, q, output;

    internal Buffers(Cache cache) {
      this.cache = cache;
      k = Of(Inputs.KvHeads);
      v = Of(Inputs.KvHeads);
      q = Of(Inputs.QHeads);
      output = Of(Inputs.QHeads);
    }

    DeviceBuffer Of(int heads) => cache.CreateBuffer(BufferKind.Device, (long)Prompt * heads * Inputs.Dim * 4);

    internal unsafe void RunLayer(Step step, int layer, float[] keys, float[] values, float[] queries, float[] outputs) {
      Upload(k, keys);
      Upload(v, values);
      Upload(q, queries);
      step.Append(layer, k.Address, keys.Length * 4L, v.Address, values.Length * 4L);
      step.Attend(layer, q.Address, queries.Length * 4L, output.Address, outputs.Length * 4L, IntPtr.Zero, 0);
      fixed (float* to = outputs) cache.Copy((IntPtr)to, Device.Cpu, output.Address, Device.Cuda, outputs.Length * 4L);
    }

    unsafe void Upload(DeviceBuffer to, float[] numbers) {
      fixed (float* from = numbers) cache.Copy(to.Address, Device.Cuda, (IntPtr)from, Device.Cpu, numbers.Length * 4L);
    }

    public void Dispose() {
      foreach (DeviceBuffer buffer in new[] { k, v, q, output }) buffer.Dispose();
    }
  }

  /// <summary>The digest of all codes that the sequence holds.</summary>
  static string Codes(Sequence sequence) {
    var digest = new Sha256();
    for (int layer = 0; layer < Inputs.Layers; layer++) {
      for (int head = 0; head < Inputs.KvHeads; head++) {
        foreach (Part part in new[] { Part.Keys, Part.Values }) {
          var codes = new byte[sequence.ReadCodes(layer, head, part) * Inputs.Dim];
          sequence.ReadCodes(layer, head, part, codes);
          digest.Add(codes);
        }
      }
    }
    return digest.Finish();
  }
}
