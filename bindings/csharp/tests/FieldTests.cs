using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Reflection;
using System.Text;
using Kvc;
using Kvc.Raw;

/// <summary>Every field of the structs of kvc.h crosses as itself, alone.</summary>
static class FieldTests {
  const BindingFlags Own = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
  static readonly IntPtr address = new IntPtr(4096);

  /// <summary>What is set on one side arrives in the field of that name on the other, and in none besides.</summary>
  public static void EveryFieldCrossesAlone() {
    var faults = new StringBuilder();
    int crossed = 0;
    using (Cache cache = Model.Cache()) {
      foreach (KeyValuePair<Type, string[]> of in CoverageTests.WrappersAndFields()) {
        foreach (string field in of.Value) {
          PropertyInfo property = of.Key.GetProperty(CoverageTests.Pascal(field));
          string fault = property.CanWrite ? Down(cache, of.Key, property, field) : Up(of.Key, property, field);
          if (fault != null) faults.Append(of.Key.Name).Append('.').Append(property.Name).Append(": ").Append(fault).Append('\n');
          crossed++;
        }
      }
    }
    Check.Equal("", faults.ToString(), "fields that do not cross as themselves");
    Check.That(crossed > 110, "only " + crossed + " fields were found");
  }

  // An option: the property is set, C's field has the value, and every other one is as it was.
  static string Down(Cache cache, Type type, PropertyInfo property, string field) {
    object wrapper = Activator.CreateInstance(type), value = Sample(property.PropertyType, cache);
    object raw = RawOf(wrapper);
    string[] before = Texts(raw);
    property.SetValue(wrapper, value);
    string fault = Compare(before, Texts(raw), field + "=" + TextOf(value));
    if (fault == null && !Equals(value, property.GetValue(wrapper))) fault = "reads " + TextOf(property.GetValue(wrapper)) + " back";
    property.SetValue(wrapper, property.PropertyType.IsValueType ? Activator.CreateInstance(property.PropertyType) : null);
    string unset = property.PropertyType == typeof(string) ? "" : "0";
    string now = Texts(raw).First(text => text.StartsWith(field + "=", StringComparison.Ordinal));
    return fault ?? (now == field + "=" + unset ? null : "stays when it is unset: " + now);
  }

  // A report: C's field is set, the property has the value, and every other one is as it was.
  static string Up(Type type, PropertyInfo property, string field) {
    object wrapper = Activator.CreateInstance(type, true), raw = RawOf(wrapper);
    PropertyInfo from = raw.GetType().GetProperty(field);
    object value = Sample(from.PropertyType, null);
    string[] before = Texts(wrapper);
    from.SetValue(raw, value);
    return Compare(before, Texts(wrapper), property.Name + "=" + TextOf(value));
  }

  static string Compare(string[] before, string[] after, string expected) {
    string changed = string.Join(" ", after.Except(before));
    return changed == expected ? null : "changed '" + changed + "', expected '" + expected + "'";
  }

  static object RawOf(object wrapper) => wrapper.GetType().GetField("raw", Own).GetValue(wrapper);

  static string[] Texts(object of) =>
      of.GetType().GetProperties(Own).Select(property => property.Name + "=" + TextOf(property.GetValue(of))).ToArray();

  // A value as both sides write it: true is C's 1, a graph its handle.
  static string TextOf(object value) {
    if (value is Graph graph) value = graph.handle.DangerousGetHandle();
    if (value is bool || value is Enum) value = Convert.ToInt32(value);
    return Convert.ToString(value, CultureInfo.InvariantCulture);
  }

  static object Sample(Type type, Cache cache) {
    if (type == typeof(bool)) return true;
    if (type.IsEnum) return Enum.GetValues(type).Cast<object>().Last(value => (int)value != 0);
    if (type == typeof(string)) return "h2o:256";
    if (type == typeof(IntPtr)) return address;
    if (type == typeof(Graph)) return GraphOf(cache);
    return Convert.ChangeType(type == typeof(float) || type == typeof(double) ? 1.5 : 7, type);
  }

  // A graph that no device made: its handle is a number that kvc does not know.
  static Graph GraphOf(Cache cache) {
    var handle = new GraphHandle(cache.handle);
    handle.Set(address);
    return new Graph(handle);
  }
}
