package kvc;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.Arrays;
import java.util.Comparator;

/** Runs the static methods without parameters of the test classes named, and prints "N passed, N failed". */
final class TestMain {
  private TestMain() {}

  public static void main(String[] classes) throws Exception {
    System.out.println("java " + Runtime.version().feature() + ", calls through " + Kvc.calls());
    int passed = 0, failed = 0;
    for (String name : classes) {
      Method[] tests = Class.forName("kvc." + name).getDeclaredMethods();
      Arrays.sort(tests, Comparator.comparing(Method::getName));
      for (Method test : tests) {
        if (!Modifier.isStatic(test.getModifiers()) || Modifier.isPrivate(test.getModifiers()) || test.getParameterCount() > 0 || test.isSynthetic()) continue;
        long begin = System.nanoTime();
        try {
          test.invoke(null);
          passed++;
        } catch (InvocationTargetException e) {
          failed++;
          System.out.println("FAILED " + name + "." + test.getName());
          e.getCause().printStackTrace(System.out);
        }
        long millis = (System.nanoTime() - begin) / 1_000_000;
        if (millis > 1000) System.out.println(name + "." + test.getName() + ": " + millis + " ms");
      }
    }
    System.out.println(passed + " passed, " + failed + " failed");
    System.exit(failed > 0 || passed == 0 ? 1 : 0);
  }
}
