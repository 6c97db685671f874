import java.nio.ByteBuffer;
import java.nio.LongBuffer;
import java.util.ArrayList;
import java.util.List;
import kvc.Direct;
import kvc.Sequence;
import kvc.Step;

/** The rows of one step: who takes part with how many tokens, and the buffers that the model's layers fill, which grow to the largest step. */
final class Batch {
  static final int ROWS = 256; // of one step, decoded tokens and prompt together
  private static final int PROMPT_LEAST = 64; // rows of a prompt, however many streams write

  private final Model model;
  final List<Stream> streams = new ArrayList<>();
  private final List<Integer> counts = new ArrayList<>(); // tokens of each
  private LongBuffer tokens, positions, lastRows, chosen;
  private ByteBuffer x, q, k, v, attended;
  private int rows;

  Batch(Model model) { this.model = model; }

  /** Lists who takes part in the next step: streams that write, oldest first, then the oldest that reads. */
  void compose(List<Stream> running) {
    streams.clear();
    counts.clear();
    Stream reader = null;
    for (Stream stream : running) {
      if (!stream.reads()) add(stream, 1);
      else if (reader == null) reader = stream;
    }
    if (reader == null) return;
    long n = Math.min(reader.unread(), Math.max(PROMPT_LEAST, ROWS - streams.size()));
    if (!reader.published && reader.length < reader.system) n = Math.min(n, reader.system - reader.length);
    add(reader, (int) Math.min(n, reader.sequence.stepLimit()));
  }

  private void add(Stream stream, int n) {
    streams.add(stream);
    counts.add(n);
  }

  int tokens(int i) { return counts.get(i); }

  List<Sequence> sequences() { return streams.stream().map(stream -> stream.sequence).toList(); }

  long[] counts() { return counts.stream().mapToLong(Integer::longValue).toArray(); }

  /** False if there is only one. */
  boolean leaveLastOut() {
    int last = streams.size() - 1;
    if (last == 0) return false;
    streams.remove(last);
    counts.remove(last);
    return true;
  }

  /** The only one takes half as many tokens; false if it takes one. */
  boolean halve() {
    if (counts.get(0) == 1) return false;
    counts.set(0, counts.get(0) / 2);
    return true;
  }

  /** The model's layers around kvc's appends and attends, in the step that was begun. */
  void forward(Step step) {
    fill();
    model.embed(tokens, rows, x);
    for (int layer = 0; layer < model.layers; layer++) {
      model.project(layer, x, positions, rows, q, k, v);
      step.append(layer, k, v);
      step.attend(layer, q, attended);
      model.mix(layer, x, attended, rows);
    }
    step.commit();
  }

  /** The next tokens of those who have nothing left to read. */
  void choose() { model.choose(x, lastRows, lastRows.remaining(), chosen); }

  long chosen(int i) { return chosen.get(i); }

  /** Lays the rows out. */
  private void fill() {
    rows = counts.stream().mapToInt(Integer::intValue).sum();
    tokens = grown(tokens, rows);
    positions = grown(positions, rows);
    lastRows = grown(lastRows, streams.size());
    chosen = grown(chosen, streams.size());
    for (int i = 0; i < streams.size(); i++) {
      Stream stream = streams.get(i);
      int end = stream.length + counts.get(i);
      for (int at = stream.length; at < end; at++) {
        tokens.put(stream.tokens[at]);
        positions.put(at);
      }
      if (counts.get(i) > 0 && end == stream.count) lastRows.put(tokens.position() - 1);
    }
    lastRows.flip();
    x = grown(x, model.width);
    q = grown(q, model.qWidth);
    k = grown(k, model.kvWidth);
    v = grown(v, model.kvWidth);
    attended = grown(attended, model.qWidth);
  }

  private static LongBuffer grown(LongBuffer buffer, int n) {
    return buffer == null || buffer.capacity() < n ? Direct.longs(n) : buffer.clear();
  }

  /** kvc takes a buffer to its limit: exactly this step's rows. */
  private ByteBuffer grown(ByteBuffer buffer, int width) {
    int bytes = rows * width * Float.BYTES;
    return buffer == null || buffer.capacity() < bytes ? Direct.bytes(bytes) : buffer.limit(bytes);
  }
}
